//! Stories over the whole of `load`: text in, a stack or messages out.

use std::ffi::OsString;
use std::time::Duration;

use super::*;

const MACHINE: Machine = Machine { memory: 8 << 30, cpus: 4, pid_max: 32_768 };

/// Sources with a Procfile and nothing else.
fn procfile(text: &str) -> Sources {
    Sources {
        procfile: Text::new("Procfile", text),
        env_files: Vec::new(),
        manifest: None,
        environment: Vec::new(),
        root: "/srv/app".into(),
        options: Options::default(),
        machine: MACHINE,
    }
}

/// The same with options.
fn typed(text: &str, change: impl FnOnce(&mut Options)) -> Sources {
    let mut sources = procfile(text);
    change(&mut sources.options);
    sources
}

fn manifest(text: &str, file: &str) -> Sources {
    let mut sources = procfile(text);
    sources.manifest = Some(Text::new("lpm.toml", file));
    sources
}

fn given(origin: &str, value: &str) -> Given {
    Given::new(origin, [value])
}

#[track_caller]
fn stack(sources: &Sources) -> Stack {
    load(sources).unwrap_or_else(|problems| panic!("refused: {:?}", texts(&problems))).stack
}

#[track_caller]
fn refused(sources: &Sources) -> Vec<String> {
    match load(sources) {
        Ok(loaded) => panic!("accepted: {:?}", loaded.stack),
        Err(problems) => texts(&problems.into_iter().filter(Diagnostic::is_error).collect::<Vec<_>>()),
    }
}

fn warnings(sources: &Sources, severity: Severity) -> Vec<String> {
    let warnings = load(sources).expect("accepted").warnings;
    texts(&warnings.into_iter().filter(|warning| warning.severity == severity).collect::<Vec<_>>())
}

fn texts(problems: &[Diagnostic]) -> Vec<String> {
    problems.iter().map(Diagnostic::to_string).collect()
}

fn names(stack: &Stack) -> Vec<&str> {
    stack.instances.iter().map(|instance| instance.name.as_str()).collect()
}

fn ports(stack: &Stack) -> Vec<u16> {
    stack.instances.iter().map(|instance| instance.port.expect("has a port")).collect()
}

fn instance<'a>(stack: &'a Stack, name: &str) -> &'a Instance {
    stack.instances.iter().find(|instance| instance.name == name).expect("is in the stack")
}

fn variable(stack: &Stack, instance_name: &str, name: &str) -> Option<String> {
    let environment = environment_of(stack, instance(stack, instance_name));
    let mut found = environment.iter().filter(|(known, _)| known == name);
    let value = found.next().map(|(_, value)| value.to_string_lossy().into_owned());
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

fn os(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn a_bare_procfile_is_a_stack() {
    let stack = stack(&procfile("web: ./serve\nworker: while :; do work; done\n"));
    assert_eq!(names(&stack), ["web.1", "worker.1"]);
    assert_eq!(stack.name, "app");
    let web = &stack.instances[0];
    assert_eq!(web.command, Command::Direct { words: vec!["./serve".into()], text: "./serve".into() });
    assert_eq!(stack.instances[1].command, Command::Shell("while :; do work; done".into()));
    assert_eq!(web.policy.timeout_stop, Duration::from_secs(5));
    assert_eq!(web.policy.stop_signal, Signal::TERM);
    assert_eq!(web.ceilings, Ceilings::default());
}
