//! `lpm check`: is it valid, what would run, and what would this machine make of it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::cli::{Check, Origins};
use crate::config::quantity::{format_cpu, format_memory, format_tasks};
use crate::config::table::{self, Field, Row};
use crate::config::value::Value as Setting;
use crate::config::{self, Ceilings, Command, Diagnostic, Loaded, Said, Severity, Stack};
use crate::error::{Error, tell};
use crate::launch::gather::{self, Asked, Surroundings};
use crate::launch::ground::{self, Lack};
use crate::launch::{print_json, refused, say, shown};
use crate::linux::tier::Decision;
use crate::supervisor::Ending;

/// Judges the text. Warnings, which `start` overlooks, fail here.
///
/// # Errors
/// Everything that is wrong, located.
pub fn check(around: &Surroundings, arguments: Check, origins: &Origins) -> Result<Ending, Error> {
    let Check { names, stack, count, settings, json } = arguments;
    let asked = Asked { stack, count, settings: settings.into_typed(), names: &names };
    let gathered = gather::gather(around, asked, origins)?;
    let loaded = match config::load(&gathered.sources) {
        Ok(loaded) => loaded,
        Err(problems) if json => {
            print_json(&json!({"valid": false, "problems": told(&problems)}))?;
            return Ok(Ending::Code(1));
        }
        Err(problems) => return Err(refused(&problems)),
    };
    let decision = ground::survey(around)?;
    let lacks = ground::lacks(&loaded.stack, &decision);
    let valid = !loaded.warnings.iter().any(|problem| problem.severity == Severity::Warning);
    let ending = Ending::Code(u8::from(!valid));
    if json {
        print_json(&object(&loaded, &decision, &lacks, valid))?;
        return Ok(ending);
    }
    let of = |severity| loaded.warnings.iter().filter(move |problem| problem.severity == severity);
    shown(of(Severity::Warning)).iter().for_each(|line| tell(format_args!("lpm: {line}")));
    shown(of(Severity::Note)).iter().for_each(|line| tell(format_args!("lpm: note: {line}")));
    if valid {
        say(&report(&loaded.stack, &decision, &lacks))?;
    }
    Ok(ending)
}

fn report(stack: &Stack, decision: &Decision, lacks: &[Lack]) -> String {
    let names: Vec<&str> = stack.processes.iter().map(|process| process.name.as_str()).collect();
    let mut text = format!("valid procfile detected ({})\n\n", names.join(", "));
    let mut say = |line: String| writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
    let width = stack.instances.iter().map(|instance| instance.name.len()).max().unwrap_or(0).max(8);
    say(format!("{:<width$}  {:>5}  LIMITS", "INSTANCE", "PORT"));
    for instance in &stack.instances {
        let port = instance.port.map_or("-".to_owned(), |port| port.to_string());
        say(format!("{:<width$}  {port:>5}  {}", instance.name, in_words(&instance.ceilings)));
    }
    let off: Vec<&str> = stack
        .processes
        .iter()
        .filter(|process| process.count == 0)
        .map(|process| process.name.as_str())
        .collect();
    if !off.is_empty() {
        say(format!("not started: {}", off.join(", ")));
    }
    if stack.ceilings != Ceilings::default() {
        say(format!("all together: {}", in_words(&stack.ceilings)));
    }
    say(format!("\ntier: {} (see lpm doctor)", decision.tier));
    lacks.iter().for_each(|lack| say(lack.sentence()));
    if swaps(stack) {
        say("memory limits leave swap as it is; add --swap 0 to have none used".to_owned());
    }
    text
}

/// Whether a memory ceiling without a swap ceiling means less than it seems, because there is swap.
fn swaps(stack: &Stack) -> bool {
    let mut all = stack.instances.iter().map(|instance| &instance.ceilings).chain([&stack.ceilings]);
    rustix::system::sysinfo().totalswap > 0
        && all.any(|ceilings| ceilings.memory_max.is_some() && ceilings.memory_swap_max.is_none())
}

/// `memory 512M, cpu 1.5`; `-` for none.
fn in_words(ceilings: &Ceilings) -> String {
    let parts = [
        ceilings.memory_max.map(|ceiling| format!("memory {}", format_memory(ceiling))),
        ceilings.memory_high.map(|ceiling| format!("memory-high {}", format_memory(ceiling))),
        ceilings.memory_swap_max.map(|ceiling| format!("swap {}", format_memory(ceiling))),
        ceilings.cpu_quota.map(|ceiling| format!("cpu {}", format_cpu(ceiling))),
        ceilings.cpu_weight.map(|weight| format!("cpu-weight {weight}")),
        ceilings.tasks_max.map(|ceiling| format!("tasks {}", format_tasks(ceiling))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

fn told(problems: &[Diagnostic]) -> Vec<Value> {
    let object = |problem: &Diagnostic| {
        let severity = match problem.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        json!({
            "severity": severity,
            "source": problem.place.as_ref().map(|place| &place.source),
            "line": problem.place.as_ref().and_then(|place| place.line),
            "message": problem.message,
        })
    };
    problems.iter().map(object).collect()
}

/// Ceilings as they were said: what has no limit and what was not said are different here.
fn limits(ceilings: &Ceilings) -> Value {
    json!({
        "memory_max": ceilings.memory_max,
        "memory_high": ceilings.memory_high,
        "memory_swap_max": ceilings.memory_swap_max,
        "cpu_quota": ceilings.cpu_quota,
        "cpu_weight": ceilings.cpu_weight,
        "tasks_max": ceilings.tasks_max,
    })
}

/// Values of environment variables stay out of it: they may be secrets.
fn object(loaded: &Loaded, decision: &Decision, lacks: &[Lack], valid: bool) -> Value {
    let stack = &loaded.stack;
    let processes = stack.processes.iter().map(|process| {
        json!({
            "name": process.name,
            "line": process.line,
            "command": process.text,
            "count": process.count,
            "port": process.port,
        })
    });
    let instances = stack.instances.iter().map(|instance| {
        let said = loaded.spec.of_instance(instance.process, instance.number);
        let object = json!({
            "name": instance.name,
            "port": instance.port,
            "shell": matches!(instance.command, Command::Shell(_)),
            "ceilings": limits(&instance.ceilings),
        });
        with_settings(object, Row::is_of_processes, |row| row.of_instance(instance), said)
    });
    let lacks = lacks.iter().map(|lack| {
        json!({
            "ceiling": lack.limit_and_owner(),
            "controller": lack.setting.controller,
            "reason": lack.obstacle.reason,
            "fix": lack.obstacle.fix,
        })
    });
    let object = json!({
        "valid": valid,
        "stack": stack.name,
        "root": stack.root.to_string_lossy(),
        "processes": processes.collect::<Vec<_>>(),
        "instances": instances.collect::<Vec<_>>(),
        "ceilings": limits(&stack.ceilings),
        "tier": decision.tier.to_string(),
        "unenforceable": lacks.collect::<Vec<_>>(),
        "problems": told(&loaded.warnings),
    });
    with_settings(object, Row::is_of_stack, |row| row.of_stack(stack), loaded.spec.of_stack().iter())
}

/// `object` with the settings `is_here` that are no limits, and under `said` the place of each that was said.
fn with_settings<'a>(
    mut object: Value,
    is_here: fn(&Row) -> bool,
    value: impl Fn(&Row) -> Option<Setting>,
    said: impl Iterator<Item = &'a Said>,
) -> Value {
    let fields = object.as_object_mut().expect("an object was made");
    let settings = table::rows().filter(|row| is_here(row) && !matches!(row.field, Field::Limits(_)));
    for row in settings {
        if let Some(value) = value(row) {
            fields.entry(key(row)).or_insert_with(|| json_of(&value));
        }
    }
    let places = said.map(|said| (key(said.row), json!(said.place.to_string())));
    fields.insert("said".to_owned(), places.collect::<serde_json::Map<_, _>>().into());
    object
}

/// The key of a setting in JSON, which lpm spells with underscores everywhere.
fn key(row: &Row) -> String {
    row.key.replace('-', "_")
}

fn json_of(value: &Setting) -> Value {
    match value {
        Setting::None => Value::Null,
        Setting::Bool(yes) => json!(yes),
        Setting::Number(number) => json!(number),
        other => json!(other.to_string()),
    }
}
