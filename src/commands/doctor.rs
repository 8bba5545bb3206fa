//! `lpm doctor`: what this machine can enforce, and every step of how that was found out.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::cli::Doctor;
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{ground, print_json, say};
use crate::linux::tier::{Decision, Place, Tier};
use crate::supervisor::Ending;

/// Says what was decided, step by step.
///
/// # Errors
/// `/proc` cannot be read.
pub fn doctor(around: &Surroundings, arguments: &Doctor) -> Result<Ending, Error> {
    let decision = ground::survey(around)?;
    match arguments.json {
        true => print_json(&object(&decision)),
        false => say(&report(&decision)),
    }
}

/// For people, at most 80 columns but for paths.
fn report(decision: &Decision) -> String {
    let mut text = format!("tier: {} ({})\n\n", decision.tier, meaning(decision.tier));
    let mut say = |line: String| writeln!(text, "{line}").expect("a String takes everything");
    for (at, step) in decision.steps.iter().enumerate() {
        say(format!("{:2}. {}", at + 1, step.question));
        say(format!("    {}", step.answer));
    }
    say(String::new());
    say(match &decision.place {
        Place::Delegated(path) => format!("place: {}", path.display()),
        Place::OwnDirectory(path) => format!("place: a directory of its own in {}", path.display()),
        Place::Scope { user: true } => {
            "place: a scope of its own, from systemd-run --user --scope -p Delegate=yes".to_owned()
        }
        Place::Scope { user: false } => {
            "place: a scope of its own, from systemd-run --scope -p Delegate=yes".to_owned()
        }
        Place::Nothing => "place: none".to_owned(),
    });
    let mut obstacles: Vec<(&str, &str)> = Vec::new();
    for controller in &decision.controllers {
        match &controller.missing {
            None => say(format!("  {:<7} available", controller.name)),
            Some(obstacle) => {
                say(format!("  {:<7} missing: {}", controller.name, obstacle.reason));
                obstacles.push((controller.name, &obstacle.fix));
            }
        }
    }
    if let Some(obstacle) = &decision.obstacle {
        say(format!("\nto improve this ({}):", obstacle.reason));
        obstacle.fix.lines().for_each(|line| say(format!("  {line}")));
    } else if !obstacles.is_empty() {
        say("\nto improve this:".to_owned());
        let mut said: Vec<&str> = Vec::new();
        for (_, fix) in obstacles {
            if !said.contains(&fix) {
                said.push(fix);
                fix.lines().for_each(|line| say(format!("  {line}")));
            }
        }
    }
    text
}

fn meaning(tier: Tier) -> &'static str {
    match tier {
        Tier::Full => "limits, containment, kill",
        Tier::Tracking => "containment and kill; limits only where the controller is there",
        Tier::None => "no cgroups: containment is best effort, no limits",
    }
}

fn object(decision: &Decision) -> Value {
    let place = match &decision.place {
        Place::Delegated(path) => json!({"kind": "delegated", "path": path}),
        Place::OwnDirectory(path) => json!({"kind": "own-directory", "path": path}),
        Place::Scope { user } => json!({"kind": "scope", "user": user}),
        Place::Nothing => json!({"kind": "none"}),
    };
    let controllers = decision.controllers.iter().map(|controller| {
        let missing = controller.missing.as_ref();
        json!({
            "name": controller.name,
            "available": missing.is_none(),
            "reason": missing.map(|obstacle| &obstacle.reason),
            "fix": missing.map(|obstacle| &obstacle.fix),
        })
    });
    let steps = decision.steps.iter().map(|step| json!({"question": step.question, "answer": step.answer}));
    json!({
        "tier": decision.tier.to_string(),
        "place": place,
        "controllers": controllers.collect::<Vec<_>>(),
        "steps": steps.collect::<Vec<_>>(),
        "reason": decision.obstacle.as_ref().map(|obstacle| &obstacle.reason),
        "fix": decision.obstacle.as_ref().map(|obstacle| &obstacle.fix),
    })
}
