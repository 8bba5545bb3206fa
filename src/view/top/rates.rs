//! How fast something is used: from two looks, a number a second.

use std::collections::VecDeque;

use crate::control::interface::Usage;

/// So many looks are remembered for the sparklines.
const REMEMBERED: usize = 120;

/// What is used at present; `None`: not counted here, or not known yet.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Of one CPU, in percent.
    pub cpu_percent: Option<f64>,
    /// Of the time, in percent, how long the quota held it back.
    pub throttled_percent: Option<f64>,
    /// Bytes a second.
    pub io_read_per_second: Option<f64>,
    /// Bytes a second.
    pub io_written_per_second: Option<f64>,
}

impl Rates {
    /// Bytes a second, both ways.
    pub fn io(&self) -> f64 {
        self.io_read_per_second.unwrap_or(0.0) + self.io_written_per_second.unwrap_or(0.0)
    }
}

/// What was seen of one instance, or of all together.
#[derive(Debug, Default)]
pub(super) struct Seen {
    before: Option<(u64, Usage)>,
    /// Which life.
    life: Option<u32>,
    rates: Rates,
    /// The newest last.
    pub cpu: VecDeque<f64>,
    /// Bytes.
    pub memory: VecDeque<f64>,
}

impl Seen {
    /// Takes in a look, at `now_usec`. `life`: which one that is, where there are several.
    pub fn look(&mut self, usage: &Usage, life: Option<u32>, now_usec: u64) {
        if self.life != life {
            // Counters begin anew, at a time that is not known.
            (self.before, self.life) = (None, life);
        }
        self.rates = match &self.before {
            Some((then, was)) if now_usec > *then => {
                let seconds = (now_usec - then) as f64 / 1e6;
                let rate = |now: Option<u64>, was: Option<u64>| {
                    Some(now?.saturating_sub(was.unwrap_or(0)) as f64 / seconds)
                };
                Rates {
                    cpu_percent: rate(usage.cpu_usec, was.cpu_usec).map(|usec| usec / 1e4),
                    throttled_percent: rate(usage.throttled_usec, was.throttled_usec).map(|usec| usec / 1e4),
                    io_read_per_second: rate(usage.io_read, was.io_read),
                    io_written_per_second: rate(usage.io_written, was.io_written),
                }
            }
            _ => Rates::default(),
        };
        self.before = Some((now_usec, usage.clone()));
        remember(&mut self.cpu, self.rates.cpu_percent.unwrap_or(0.0));
        remember(&mut self.memory, usage.memory_current.unwrap_or(0) as f64);
    }

    pub fn rates(&self) -> Rates {
        self.rates
    }
}

fn remember(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == REMEMBERED {
        values.pop_front();
    }
    values.push_back(value);
}

/// The newest of these in so many cells, the highest as high as the highest of them, or as `least`.
pub(super) fn sparkline(values: &VecDeque<f64>, cells: usize, least: f64) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest: Vec<f64> = values.iter().copied().skip(values.len().saturating_sub(cells)).collect();
    let top = newest.iter().copied().fold(least, f64::max).max(f64::MIN_POSITIVE);
    let step = |value: &f64| STEPS[((value / top * 7.0).round().clamp(0.0, 7.0)) as usize];
    let line: String = newest.iter().map(step).collect();
    format!("{line:>cells$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(cpu_usec: u64) -> Usage {
        Usage { cpu_usec: Some(cpu_usec), io_read: Some(cpu_usec / 10), ..Usage::default() }
    }

    #[test]
    fn a_rate_is_known_from_the_second_look_of_a_life_on() {
        let mut seen = Seen::default();
        seen.look(&used(5_000_000), Some(1), 1_000_000);
        assert_eq!(seen.rates(), Rates::default());
        seen.look(&used(6_000_000), Some(1), 3_000_000);
        assert_eq!((seen.rates().cpu_percent, seen.rates().io()), (Some(50.0), 50_000.0));
        assert_eq!(seen.rates().throttled_percent, None, "not counted");
        // The next life has used little, and not less than nothing.
        seen.look(&used(10_000), Some(2), 4_000_000);
        assert_eq!(seen.rates(), Rates::default());
        seen.look(&used(510_000), Some(2), 5_000_000);
        assert_eq!(seen.rates().cpu_percent, Some(50.0));
        // Twice in one moment, and a clock that was set back.
        seen.look(&used(510_000), Some(2), 5_000_000);
        seen.look(&used(520_000), Some(2), 1);
        assert_eq!(seen.rates(), Rates::default());
    }

    #[test]
    fn sparklines_show_the_newest() {
        let values: VecDeque<f64> = [0.0, 100.0, 50.0, 10.0].into();
        assert_eq!(sparkline(&values, 3, 10.0), "█▅▂");
        assert_eq!(sparkline(&values, 6, 10.0), "  ▁█▅▂");
        assert_eq!(sparkline(&[0.0, 1.0].into(), 2, 100.0), "▁▁", "little is not made much of");
        assert_eq!(sparkline(&VecDeque::new(), 2, 0.0), "  ");
    }
}
