//! Charts as SVG: an axis of time that all of them share, a series with the ceiling on it, bars, and the time line.
//!
//! Coordinates are those of a view box, and the page scales it. Whatever is drawn has a `<title>`, which a browser shows
//! at the pointer and a screen reader reads.

use std::fmt::Write;

/// From when to when a run went, µs since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub from: u64,
    pub to: u64,
}

impl Span {
    /// In µs, at least a millisecond: what took no time has a width all the same.
    pub fn length(self) -> u64 {
        self.to.saturating_sub(self.from).max(1000)
    }

    /// Where a moment lies, 0 to 1; what is outside is moved to the border.
    fn share(self, time: u64) -> f64 {
        (time.saturating_sub(self.from) as f64 / self.length() as f64).clamp(0.0, 1.0)
    }

    /// Moments to be marked, µs since the epoch, and how they are written.
    fn moments(self, most: u64) -> Vec<(u64, String)> {
        self.ticks(most)
            .into_iter()
            .map(|tick| (self.from.saturating_add(tick), elapsed(tick, self)))
            .collect()
    }

    /// Moments to be marked, as µs from the beginning, at most so many and the beginning.
    pub fn ticks(self, most: u64) -> Vec<u64> {
        const STEPS: [u64; 22] = [
            1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000,
            300_000, 600_000, 1_800_000, 3_600_000, 21_600_000,
        ];
        let length = self.length();
        let fits = |step: &&u64| length / (**step * 1000) <= most;
        let step = STEPS
            .iter()
            .find(fits)
            .map_or_else(|| (length / most.max(1) / 86_400_000_000 + 1) * 86_400_000_000, |step| step * 1000);
        (0..=length / step).map(|count| count * step).collect()
    }
}

/// Below an axis; at its end a text stands before the moment.
fn moment(x: f64, y: f64, at_the_end: bool, words: &str) -> String {
    let anchor = if at_the_end { "end" } else { "middle" };
    format!("<text class=\"x\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>")
}

/// `0:05`, `1:02:03`, `0.25 s` where the run was short.
pub(super) fn elapsed(usec: u64, span: Span) -> String {
    let seconds = usec / 1_000_000;
    if span.length() < 20_000_000 {
        let text = format!("{:.3}", usec as f64 / 1e6);
        return format!("{} s", text.trim_end_matches('0').trim_end_matches('.'));
    }
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// What a small chart shows.
pub(super) struct Chart<'a> {
    /// What it is about, with its newest or largest value.
    pub title: &'a str,
    pub span: Span,
    /// Moments and values, in their order; `None` breaks the line.
    pub points: Vec<(u64, Option<f64>)>,
    /// As bars that end at their moment, and not as a line.
    pub bars: bool,
    /// What the kernel held it to, and how that is written.
    pub ceiling: Option<(f64, String)>,
    /// How a value is written.
    pub format: &'a dyn Fn(f64) -> String,
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 120.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 18.0;

/// No more points than this are drawn; of those that share a place the largest is.
const MOST_POINTS: usize = 200;

/// A ceiling that is so many times as high as anything that was reached would press it all to the ground.
const TOO_HIGH: f64 = 8.0;

impl Chart<'_> {
    pub fn svg(&self) -> String {
        let points = thinned(&self.points);
        let reached = points.iter().filter_map(|(_, value)| *value).fold(0.0, f64::max);
        let ceiling = self.ceiling.as_ref().filter(|(at, _)| *at > 0.0 && (*at <= reached * TOO_HIGH));
        let top = ceiling.map_or(reached, |(at, _)| at.max(reached));
        let top = if top > 0.0 { top * 1.05 } else { 1.0 };
        let x = |time: u64| LEFT + self.span.share(time) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| TOP + (1.0 - (value / top).clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM);
        let floor = HEIGHT - BOTTOM;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title>",
            escaped(self.title)
        );
        for value in [0.0, reached / 2.0, reached] {
            let at = y(value);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 5.0,
                at + 3.5,
                escaped(&(self.format)(value)),
            );
            if reached <= 0.0 {
                break;
            }
        }
        for (tick, words) in self.span.moments(4) {
            let at = x(tick);
            let _ = write!(svg, "{}", moment(at, HEIGHT - 4.0, at > WIDTH - 30.0, &words));
        }
        match self.bars {
            true => {
                let mut before = self.span.from;
                let mut path = String::new();
                for (time, value) in &points {
                    if let Some(value) = value.filter(|value| *value > 0.0) {
                        let (left, right) = (x(before), x(*time));
                        let width = (right - left - 0.6).max(0.8);
                        let at = y(value);
                        let _ = write!(path, "M{left:.1} {floor:.1}V{at:.1}h{width:.1}V{floor:.1}z");
                    }
                    before = *time;
                }
                let _ = write!(svg, "<path class=\"bars\" d=\"{path}\"/>");
            }
            false => {
                let (line, area) = stretches(&points, x, y, floor);
                let _ = write!(svg, "<path class=\"area\" d=\"{area}\"/><path class=\"line\" d=\"{line}\"/>");
            }
        }
        if let Some((at, label)) = ceiling {
            let at = y(*at);
            // Below the line, where it would run into the edge.
            let text = if at < TOP + 10.0 { at + 10.0 } else { at - 3.0 };
            let _ = write!(
                svg,
                "<path class=\"ceiling\" d=\"M{LEFT} {at:.1}H{right:.1}\"/>\
                 <text class=\"ceiling\" text-anchor=\"end\" x=\"{right:.1}\" y=\"{text:.1}\">{}</text>",
                escaped(label),
                right = WIDTH - RIGHT,
            );
        }
        svg + "</svg>"
    }

    /// The ceiling in words, where it is too high to be drawn.
    pub fn ceiling_above(&self) -> Option<&str> {
        let reached = self.points.iter().filter_map(|(_, value)| *value).fold(0.0, f64::max);
        let (at, label) = self.ceiling.as_ref()?;
        (*at > reached * TOO_HIGH).then_some(label.as_str())
    }
}

/// Lines and the areas below them, a stretch for each run of values.
fn stretches(
    points: &[(u64, Option<f64>)],
    x: impl Fn(u64) -> f64,
    y: impl Fn(f64) -> f64,
    floor: f64,
) -> (String, String) {
    let (mut line, mut area) = (String::new(), String::new());
    let mut last: Option<f64> = None;
    for (time, value) in points {
        let at = x(*time);
        match (value, last) {
            (Some(value), None) => {
                let _ = write!(line, "M{at:.1} {:.1}", y(*value));
                let _ = write!(area, "M{at:.1} {floor:.1}V{:.1}", y(*value));
                last = Some(at);
            }
            (Some(value), Some(_)) => {
                let _ = write!(line, "L{at:.1} {:.1}", y(*value));
                let _ = write!(area, "L{at:.1} {:.1}", y(*value));
                last = Some(at);
            }
            (None, Some(end)) => {
                // One alone is a dot.
                let _ = write!(line, "h0.1");
                let _ = write!(area, "L{end:.1} {floor:.1}z");
                last = None;
            }
            (None, None) => {}
        }
    }
    if let Some(end) = last {
        line.push_str("h0.1");
        let _ = write!(area, "L{end:.1} {floor:.1}z");
    }
    (line, area)
}

/// At most [`MOST_POINTS`], the largest of those that come together.
fn thinned(points: &[(u64, Option<f64>)]) -> Vec<(u64, Option<f64>)> {
    let together = points.len().div_ceil(MOST_POINTS).max(1);
    let largest = |chunk: &[(u64, Option<f64>)]| {
        let value = chunk.iter().filter_map(|(_, value)| value.filter(|value| value.is_finite()));
        (
            chunk[chunk.len() - 1].0,
            value.fold(None, |most: Option<f64>, value| Some(most.unwrap_or(value).max(value))),
        )
    };
    points.chunks(together).map(largest).collect()
}

/// A life on the time line.
pub(super) struct Bar {
    pub from: u64,
    pub to: u64,
    pub failed: bool,
    pub title: String,
}

/// A moment on the time line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Clean,
    Failed,
    OutOfMemory,
    Other,
}

/// One instance's row.
pub(super) struct Lane {
    pub name: String,
    pub bars: Vec<Bar>,
    /// Waits for a restart.
    pub waits: Vec<(u64, u64)>,
    pub marks: Vec<(u64, Mark, String)>,
}

const LANE: f64 = 24.0;
const LANES_WIDTH: f64 = 1000.0;
const LANES_RIGHT: f64 = 16.0;

/// The time line. `lines`: moments of the whole stack, with what they are.
pub(super) fn lanes(span: Span, lanes: &[Lane], lines: &[(u64, String)]) -> String {
    let longest = lanes.iter().map(|lane| lane.name.chars().count()).max().unwrap_or(0).min(24);
    let left = longest as f64 * 7.4 + 14.0;
    let height = lanes.len() as f64 * LANE + 26.0;
    let x = |time: u64| left + span.share(time) * (LANES_WIDTH - left - LANES_RIGHT);
    let bottom = lanes.len() as f64 * LANE + 4.0;
    let mut svg = format!(
        "<svg class=\"lanes\" viewBox=\"0 0 {LANES_WIDTH} {height}\" role=\"img\"><title>Time line</title>"
    );
    for (tick, words) in span.moments(10) {
        let at = x(tick);
        let text = moment(at, bottom + 16.0, at > LANES_WIDTH - 40.0, &words);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{at:.1} 2V{bottom:.1}\"/>{text}");
    }
    for (time, title) in lines {
        let at = x(*time);
        let _ = write!(
            svg,
            "<path class=\"whole\" d=\"M{at:.1} 2V{bottom:.1}\"><title>{}</title></path>",
            escaped(title)
        );
    }
    for (at, lane) in lanes.iter().enumerate() {
        let middle = at as f64 * LANE + LANE / 2.0 + 2.0;
        let name: String = match lane.name.chars().count() > longest {
            true => lane.name.chars().take(longest.saturating_sub(1)).chain(['…']).collect(),
            false => lane.name.clone(),
        };
        let _ = write!(
            svg,
            "<text class=\"name\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left - 8.0,
            middle + 4.0,
            escaped(&name)
        );
        for (from, to) in &lane.waits {
            let (from, to) = (x(*from), x(*to));
            let _ = write!(svg, "<path class=\"wait\" d=\"M{from:.1} {middle:.1}H{to:.1}\"/>");
        }
        for bar in &lane.bars {
            let (from, to) = (x(bar.from), x(bar.to));
            let class = if bar.failed { "life failed" } else { "life" };
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" rx=\"2\"><title>{}</title></rect>",
                middle - 6.0,
                (to - from).max(2.0),
                escaped(&bar.title)
            );
        }
        for (time, mark, title) in &lane.marks {
            let at = x(*time);
            let _ = write!(
                svg,
                "<path class=\"mark {}\" d=\"{}\"><title>{}</title></path>",
                mark.class(),
                mark.path(at, middle),
                escaped(title)
            );
        }
    }
    svg + "</svg>"
}

impl Mark {
    fn class(self) -> &'static str {
        match self {
            Mark::Clean => "clean",
            Mark::Failed => "bad",
            Mark::OutOfMemory => "oom",
            Mark::Other => "other",
        }
    }

    /// They differ in shape, for those who see no colour.
    fn path(self, x: f64, y: f64) -> String {
        match self {
            Mark::Clean => format!("M{:.1} {y:.1}a4 4 0 1 1 8 0a4 4 0 1 1 -8 0z", x - 4.0),
            Mark::Failed => format!("M{:.1} {:.1}l8 8m0 -8l-8 8", x - 4.0, y - 4.0),
            Mark::OutOfMemory => format!("M{x:.1} {:.1}l5.5 10h-11z", y - 6.0),
            Mark::Other => format!("M{x:.1} {:.1}l3.5 3.5l-3.5 3.5l-3.5 -3.5z", y - 3.5),
        }
    }

    /// Alone, for the legend.
    pub fn sample(self) -> String {
        format!(
            "<svg class=\"sample\" viewBox=\"0 0 14 14\"><path class=\"mark {}\" d=\"{}\"/></svg>",
            self.class(),
            self.path(7.0, 7.0)
        )
    }
}

/// As text of a page: what would be markup is none, and control characters are shown.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}
