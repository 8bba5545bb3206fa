//! The report as one page: no scripts, nothing from elsewhere, light or dark as the reader has it, and tables for those
//! who see no pictures.

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::chart::{Bar, Chart, Lane, Mark, Span, elapsed, escaped, lanes};
use super::{Instance, Report, Series};
use crate::config::Ceiling;
use crate::config::quantity::{format_cpu, format_cpu_time, format_memory, format_size};
use crate::control::interface::{Ceilings, Event, LifeResult};
use crate::wording::event::Turn;

/// The newest events that are listed.
const MOST_EVENTS: usize = 500;

/// Up to so many instances have their charts in sight.
const MOST_OPEN: usize = 6;

/// The whole page. Times are those of `zone`.
pub fn html(report: &Report, zone: &TimeZone) -> String {
    let span = Span { from: report.began, to: report.ended };
    let stack = escaped(&report.stack);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{stack} - lpm</title><style>{STYLE}</style></head><body>\n"
    );
    head(&mut page, report, span, zone);
    summary(&mut page, report);
    time_line(&mut page, report, span);
    used(&mut page, report, span);
    events(&mut page, report, span, zone);
    page.push_str("</body></html>\n");
    page
}

fn head(page: &mut String, report: &Report, span: Span, zone: &TimeZone) {
    let (word, class) = match report.exit_code {
        0 => ("ended well".to_owned(), "good"),
        code @ 129..=192 => (format!("ended by a signal ({code})"), "bad"),
        code => (format!("exit code {code}"), "bad"),
    };
    let failed = report.instances.iter().filter(|one| is_bad(one)).count();
    let failed = match failed {
        0 => String::new(),
        1 => " · 1 instance failed".to_owned(),
        count => format!(" · {count} instances failed"),
    };
    let _ = writeln!(
        page,
        "<header><h1>{} <span class=\"{class}\">{word}</span></h1><p>{} · {} · {}{failed}</p>\
         <p class=\"faint\">lpm {}, tier {}</p></header>",
        escaped(&report.stack),
        moment(report.began, zone),
        long(span.length()),
        counted(report.instances.len(), "instance"),
        escaped(&report.lpm),
        escaped(report.tier.as_str()),
    );
}

fn summary(page: &mut String, report: &Report) {
    let any = |is: &dyn Fn(&Instance) -> bool| report.instances.iter().any(is);
    let (oom, left) = (any(&|one| one.summary.oom_kills > 0), any(&|one| one.summary.leftovers > 0));
    page.push_str("<section><h2>Instances</h2><div class=\"scroll\"><table><thead><tr><th>Name<th>Ended<th class=\"n\">Starts<th class=\"n\">CPU<th class=\"n\">Memory peak<th class=\"n\">Lines<th class=\"n\">Log");
    page.push_str(if oom { "<th class=\"n\">OOM kills" } else { "" });
    page.push_str(if left { "<th class=\"n\">Left behind" } else { "" });
    page.push_str("</tr></thead><tbody>\n");
    for one in &report.instances {
        let sum = &one.summary;
        let memory = match (sum.memory_peak, one.ceilings.memory_max) {
            (Some(peak), Some(max)) => {
                format!("{} of {}", format_size(peak), format_memory(Ceiling::At(max)))
            }
            (Some(peak), None) => format_size(peak),
            (None, _) => "-".to_owned(),
        };
        let bad = is_bad(one);
        let _ = write!(
            page,
            "<tr{}><th title=\"{}\">{}<td class=\"what\">{}{}{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}",
            if bad { " class=\"failed\"" } else { "" },
            escaped(&one.command),
            escaped(&one.name),
            if bad { "✕ " } else { "" },
            escaped(&sum.ended),
            sum.failure
                .as_ref()
                .map_or(String::new(), |why| format!(" <span class=\"faint\">{}</span>", escaped(why))),
            sum.starts,
            format_cpu_time(sum.cpu_usec),
            memory,
            sum.lines,
            format_size(sum.bytes),
        );
        let optional = [(oom, sum.oom_kills), (left, u64::from(sum.leftovers))];
        for (_, number) in optional.iter().filter(|(shown, _)| *shown) {
            let _ = write!(page, "<td class=\"n\">{number}");
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div></section>\n");
}

fn is_bad(one: &Instance) -> bool {
    one.summary.result.as_ref().is_some_and(LifeResult::is_failure)
}

fn time_line(page: &mut String, report: &Report, span: Span) {
    let mut at: HashMap<&str, usize> = HashMap::new();
    let mut rows: Vec<Lane> = Vec::new();
    for one in &report.instances {
        at.insert(&one.name, rows.len());
        rows.push(Lane { name: one.name.clone(), bars: Vec::new(), waits: Vec::new(), marks: Vec::new() });
    }
    let mut born: HashMap<usize, u64> = HashMap::new();
    let mut waiting: HashMap<usize, u64> = HashMap::new();
    let mut whole = Vec::new();
    let when = |event: &Event| elapsed(event.time.saturating_sub(span.from), span);
    for event in &report.events {
        let title = format!("{} {}", when(event), event.message);
        let Some(&row) = event.instance.as_deref().and_then(|name| at.get(name)) else {
            if event.instance.is_none() && event.row().turn == Turn::StackEnds {
                whole.push((event.time, title));
            }
            continue;
        };
        let lane = &mut rows[row];
        match event.row().turn {
            Turn::Begins => {
                lane.waits.extend(waiting.remove(&row).map(|from| (from, event.time)));
                born.insert(row, event.time);
            }
            Turn::Ends => {
                let failed = event.result.as_ref().is_some_and(LifeResult::is_failure);
                let from = born.remove(&row).unwrap_or(span.from);
                let title = match &event.cause {
                    Some(cause) => format!("{title}: {cause}"),
                    None => title,
                };
                let life =
                    format!("{} ran {}, {}", lane.name, long(event.time.saturating_sub(from)), event.message);
                lane.bars.push(Bar { from, to: event.time, failed, title: life });
                let mark = match (&event.result, failed) {
                    (Some(LifeResult::OomKill), _) => Mark::OutOfMemory,
                    (_, true) => Mark::Failed,
                    (_, false) => Mark::Clean,
                };
                lane.marks.push((event.time, mark, title));
            }
            Turn::Waits => {
                waiting.insert(row, event.time);
            }
            Turn::NeverBegins => lane.marks.push((event.time, Mark::Failed, title)),
            Turn::KernelKills => lane.marks.push((event.time, Mark::OutOfMemory, title)),
            Turn::Leaves | Turn::StackEnds | Turn::Changes | Turn::Between => {
                lane.marks.push((event.time, Mark::Other, title));
            }
        }
    }
    for (row, from) in born {
        let title = format!("{} from {}", rows[row].name, elapsed(from.saturating_sub(span.from), span));
        rows[row].bars.push(Bar { from, to: span.to, failed: false, title });
    }
    for (row, from) in waiting {
        rows[row].waits.push((from, span.to));
    }
    let legend = [
        (Mark::Clean, "clean end"),
        (Mark::Failed, "failed"),
        (Mark::OutOfMemory, "killed at its memory limit"),
        (Mark::Other, "something else"),
    ];
    let used = |mark: Mark| rows.iter().flat_map(|lane| &lane.marks).any(|(_, known, _)| *known == mark);
    page.push_str("<section><h2>Time line</h2><div class=\"scroll\">");
    page.push_str(&lanes(span, &rows, &whole));
    page.push_str("</div><p class=\"legend\">");
    for (mark, words) in legend.into_iter().filter(|(mark, _)| used(*mark)) {
        let _ = write!(page, "<span>{}{words}</span>", mark.sample());
    }
    if rows.iter().any(|lane| !lane.waits.is_empty()) {
        page.push_str("<span><svg class=\"sample\" viewBox=\"0 0 14 14\"><path class=\"wait\" d=\"M0 7H14\"/></svg>waits for its restart</span>");
    }
    if !whole.is_empty() {
        page.push_str("<span><svg class=\"sample\" viewBox=\"0 0 14 14\"><path class=\"whole\" d=\"M7 0V14\"/></svg>the stack is stopped</span>");
    }
    page.push_str("</p></section>\n");
}

/// What there is to a chart besides its points.
struct Kind {
    title: &'static str,
    bars: bool,
    missing: &'static str,
    format: fn(f64) -> String,
}

const MEMORY: Kind = Kind {
    title: "Memory",
    bars: false,
    missing: "Memory is not counted on this machine.",
    format: |bytes| format_size(bytes as u64),
};
const CPU: Kind = Kind {
    title: "CPU",
    bars: false,
    missing: "CPU time is not counted on this machine.",
    format: |cores| match cores {
        0.0 => "0".to_owned(),
        cores if cores < 0.02 => format!("{cores:.4}"),
        cores => format!("{cores:.2}"),
    },
};
const LOG: Kind = Kind {
    title: "Lines a second",
    bars: true,
    missing: "Nothing was said.",
    format: |lines| if lines >= 10.0 || lines == 0.0 { format!("{lines:.0}") } else { format!("{lines:.1}") },
};

fn used(page: &mut String, report: &Report, span: Span) {
    page.push_str("<section><h2>Use</h2>\n");
    if report.times.is_empty() {
        page.push_str("<p>The run was over before it was looked at.</p></section>\n");
        return;
    }
    let of_stack = report.instances.len() > 1;
    if of_stack {
        figures(page, "All together", &report.total, &report.ceilings, report, span, true);
    }
    let open = report.instances.len() <= MOST_OPEN;
    for one in &report.instances {
        figures(page, &one.name, &one.series, &one.ceilings, report, span, open);
    }
    page.push_str("</section>\n");
}

fn figures(
    page: &mut String,
    name: &str,
    series: &Series,
    ceilings: &Ceilings,
    report: &Report,
    span: Span,
    open: bool,
) {
    let attribute = if open { " open" } else { "" };
    let _ = write!(page, "<details{attribute}><summary>{}</summary><div class=\"charts\">", escaped(name));
    let numbers = |values: &[Option<u64>]| -> Vec<(u64, Option<f64>)> {
        report
            .times
            .iter()
            .zip(values)
            .map(|(time, value)| (*time, value.map(|value| value as f64)))
            .collect()
    };
    let memory =
        ceilings.memory_max.map(|max| (max as f64, format!("limit {}", format_memory(Ceiling::At(max)))));
    let cpu = ceilings
        .cpu_quota
        .map(|quota| (quota as f64 / 1000.0, format!("quota {}", format_cpu(Ceiling::At(quota)))));
    chart(page, &MEMORY, span, numbers(&series.memory), memory);
    chart(page, &CPU, span, cores(&report.times, &series.cpu_usec), cpu);
    chart(page, &LOG, span, rates(report.began, &report.times, &series.lines), None);
    page.push_str("</div></details>\n");
}

fn chart(
    page: &mut String,
    kind: &Kind,
    span: Span,
    points: Vec<(u64, Option<f64>)>,
    ceiling: Option<(f64, String)>,
) {
    let most = points
        .iter()
        .filter_map(|(_, value)| *value)
        .fold(None, |most: Option<f64>, value| Some(most.map_or(value, |most| most.max(value))));
    let nothing = most.is_none() || kind.bars && most == Some(0.0);
    if nothing {
        let _ = write!(page, "<p class=\"none\">{}</p>", kind.missing);
        return;
    }
    let peak = (kind.format)(most.unwrap_or(0.0));
    let title = format!("{}, at most {peak}", kind.title);
    let chart = Chart { title: &title, span, points, bars: kind.bars, ceiling, format: &kind.format };
    let above = chart.ceiling_above().map_or(String::new(), |label| format!(", {}", escaped(label)));
    let _ = write!(
        page,
        "<figure><figcaption>{} <span class=\"faint\">at most {}{above}</span></figcaption>{}</figure>",
        kind.title,
        escaped(&peak),
        chart.svg()
    );
}

/// CPUs in use between two looks. Where the time runs backwards, a new life began, and has used what it has.
fn cores(times: &[u64], usec: &[Option<u64>]) -> Vec<(u64, Option<f64>)> {
    let mut before: Option<(u64, u64)> = None;
    times
        .iter()
        .zip(usec)
        .map(|(&time, &used)| {
            let rate = match (before, used) {
                (Some((then, was)), Some(used)) => {
                    let more = if used >= was { used - was } else { used };
                    Some(more as f64 / time.saturating_sub(then).max(1) as f64)
                }
                _ => None,
            };
            before = used.map(|used| (time, used));
            (time, rate)
        })
        .collect()
}

/// So many a second between two looks.
fn rates(began: u64, times: &[u64], counts: &[u64]) -> Vec<(u64, Option<f64>)> {
    let mut before = (began, 0);
    times
        .iter()
        .zip(counts)
        .map(|(&time, &count)| {
            let seconds = time.saturating_sub(before.0).max(1) as f64 / 1e6;
            let rate = count.saturating_sub(before.1) as f64 / seconds;
            before = (time, count);
            (time, Some(rate))
        })
        .collect()
}

fn events(page: &mut String, report: &Report, span: Span, zone: &TimeZone) {
    page.push_str("<section><h2>Events</h2>\n");
    let left_out = report.events.len().saturating_sub(MOST_EVENTS) as u64 + report.events_missed;
    if left_out > 0 {
        let _ = write!(page, "<p>{left_out} older ones are not shown.</p>");
    }
    page.push_str("<div class=\"scroll\"><table><thead><tr><th class=\"n\">After<th>At<th>Who<th>What</tr></thead><tbody>\n");
    for event in report.events.iter().skip(report.events.len().saturating_sub(MOST_EVENTS)) {
        let bad = event.cause.is_some() || event.row().turn == Turn::KernelKills;
        let cause = event
            .cause
            .as_ref()
            .map_or(String::new(), |cause| format!(" <span class=\"faint\">{}</span>", escaped(cause)));
        let _ = writeln!(
            page,
            "<tr{}><td class=\"n\">{}<td>{}<td>{}<td class=\"what\">{}{}{cause}</tr>",
            if bad { " class=\"failed\"" } else { "" },
            elapsed(event.time.saturating_sub(span.from), span),
            clock(event.time, zone),
            escaped(event.instance.as_deref().unwrap_or("-")),
            if bad { "✕ " } else { "" },
            escaped(&event.message),
        );
    }
    page.push_str("</tbody></table></div></section>\n");
}

fn moment(usec: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(usec).ok().and_then(|usec| Timestamp::from_microsecond(usec).ok());
    at.map_or("-".to_owned(), |at| at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string())
}

fn clock(usec: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(usec).ok().and_then(|usec| Timestamp::from_microsecond(usec).ok());
    at.map_or("-".to_owned(), |at| at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string())
}

/// `250ms`, `12.3 s`, `3 min 5 s`, `2 h 10 min`.
fn long(usec: u64) -> String {
    let seconds = usec / 1_000_000;
    match seconds {
        0 => format!("{} ms", usec / 1000),
        1..60 => format!("{:.1} s", usec as f64 / 1e6),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2127;--faint:#5f6b7a;--paper:#fff;--rule:#e3e7ec;--life:#7aa7d9;--line:#2b6cb0;\
--area:#2b6cb026;--bars:#8a97a8;--bad:#b42318;--badbg:#fdf0ee;--good:#1a7f4b;--ceil:#b54708;--oom:#b42318}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--faint:#9aa6b4;--paper:#14181d;--rule:#2a313a;--life:#4a78ad;\
--line:#7db3ee;--area:#7db3ee2e;--bars:#77828f;--bad:#ff8a7a;--badbg:#2c1a18;--good:#5ccf92;--ceil:#f0a35e;--oom:#ff8a7a}}\
*{box-sizing:border-box}body{margin:0 auto;padding:24px 20px 60px;max-width:1120px;background:var(--paper);color:var(--ink);\
font:15px/1.5 system-ui,sans-serif}h1{font-size:26px;margin:0}h1 span{font-size:15px;font-weight:600;padding:2px 10px;\
border:1px solid;border-radius:99px;vertical-align:middle;white-space:nowrap}.good{color:var(--good)}.bad{color:var(--bad)}\
h2{font-size:17px;margin:34px 0 10px}header p{margin:4px 0 0}.faint{color:var(--faint)}.scroll{overflow-x:auto}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:left;padding:4px 18px 4px 0;\
border-bottom:1px solid var(--rule);vertical-align:top;font-weight:400}td,tbody th{overflow-wrap:anywhere;min-width:4em}\
tbody th{font-weight:600;white-space:nowrap}thead th{color:var(--faint);font-size:13px;white-space:nowrap}\
.n{text-align:right;white-space:nowrap}tr.failed .what{color:var(--bad)}.what{min-width:7em}\
svg{display:block;width:100%;height:auto}svg text{fill:var(--faint);font:11px system-ui,sans-serif}.lanes{min-width:680px}\
.lanes .name{fill:var(--ink);font-size:13px}.y{text-anchor:end}.grid{stroke:var(--rule);fill:none}\
.line{stroke:var(--line);fill:none;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}.area{fill:var(--area)}\
.bars{fill:var(--bars)}path.ceiling{stroke:var(--ceil);stroke-dasharray:5 3;fill:none}text.ceiling{fill:var(--ceil)}\
.life{fill:var(--life)}.life.failed{fill:var(--badbg);stroke:var(--bad)}.wait{stroke:var(--faint);stroke-width:2;\
stroke-dasharray:2 3;fill:none}.whole{stroke:var(--faint);stroke-dasharray:4 3;fill:none}.mark{fill:none;stroke-width:2}\
.clean{stroke:var(--good);fill:var(--paper)}.mark.bad{stroke:var(--bad)}.oom{stroke:var(--paper);stroke-width:1;fill:var(--oom)}\
.other{fill:var(--faint)}.legend{display:flex;flex-wrap:wrap;gap:6px 20px;color:var(--faint);font-size:13px;margin:8px 0 0}\
.legend span{display:inline-flex;align-items:center;gap:6px}.sample{width:14px;height:14px}\
details{border-top:1px solid var(--rule);padding:8px 0}summary{cursor:pointer;font-weight:600}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(260px,1fr));gap:8px 22px;margin-top:6px}figure{margin:0}\
figcaption{font-size:13px;font-weight:600}figcaption .faint{font-weight:400}.none{color:var(--faint);font-size:13px;margin:0}\
@media print{body{max-width:none;padding:0}details{break-inside:avoid}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_life_has_used_what_it_has() {
        let second = |n: u64| n * 1_000_000;
        let times: Vec<u64> = (0..6).map(second).collect();
        let used = [Some(0), Some(500_000), Some(1_500_000), Some(200_000), None, Some(7)];
        let rates: Vec<Option<f64>> = cores(&times, &used).into_iter().map(|(_, rate)| rate).collect();
        assert_eq!(rates, [None, Some(0.5), Some(1.0), Some(0.2), None, None]);
        let said: Vec<Option<f64>> =
            super::rates(0, &[second(1), second(3)], &[4, 10]).into_iter().map(|(_, rate)| rate).collect();
        assert_eq!(said, [Some(4.0), Some(3.0)]);
    }
}
