//! The parsers: Procfile and env file in MB/s beside a bare search for newlines, and whole stacks.
//!
//! `cargo bench --bench config`. Figures of one run belong together.
#![expect(clippy::disallowed_methods, reason = "a bench has a clock")]

use std::time::{Duration, Instant};

use lpm::config::{
    Given, Machine, Options, Sources, Text, assignments, dotenv, environment_of, load, merge, procfile,
};

fn main() {
    let lines = 20_000;
    let text: String = (0..lines).map(|n| format!("process-{n}: bin/server --port $PORT -n {n}\n")).collect();
    let environment: String = (0..lines).map(|n| format!("NAME_{n}=\"a value\\twith {n}\"\n")).collect();
    let newlines = |text: &str| memchr::memchr_iter(b'\n', text.as_bytes()).count();
    println!("{:<28} {:>10} {:>20}", "", "MB/s", "bare newlines, MB/s");
    let rate = |text: &str, parse: &dyn Fn() -> usize| {
        let parsed = per_second(parse) * text.len() as f64 / 1e6;
        let bare = per_second(&|| newlines(text)) * text.len() as f64 / 1e6;
        (parsed, bare)
    };
    let (parsed, bare) = rate(&text, &|| procfile::parse("Procfile", text.as_bytes()).0.len());
    println!("{:<28} {parsed:>10.0} {bare:>20.0}", "Procfile, 20000 lines");
    let (parsed, bare) = rate(&environment, &|| dotenv::parse(".env", environment.as_bytes(), false).0.len());
    println!("{:<28} {parsed:>10.0} {bare:>20.0}", "env file, 20000 lines");

    println!("\n{:<28} {:>10} {:>20} {:>14}", "", "load, µs", "environments, µs", "reload, µs");
    for instances in [1, 10, 100, 1000] {
        let sources = sources(instances);
        let loaded = load(&sources).expect("a valid stack").stack;
        let whole = 1e6 / per_second(&|| load(&sources).map_or(0, |loaded| loaded.stack.instances.len()));
        let environments = 1e6
            / per_second(&|| {
                loaded.instances.iter().map(|instance| environment_of(&loaded, instance).len()).sum()
            });
        // As a running stack is changed: one setting more, all of it loaded and merged.
        let mut changed = sources;
        changed.manifest = Some(Text::new("lpm.toml", "[process.web]\nmemory-max = \"512M\"\n"));
        changed.env_files[0].bytes.extend_from_slice(b"D=4\n");
        let told = assignments("web", &["memory-max=1G".to_owned()]).expect("it is one");
        changed.options.tell(told);
        let reload = 1e6
            / per_second(&|| {
                let new = load(&changed).expect("a valid stack").stack;
                merge(&loaded, &|_| true, &|_| None, new).1.len()
            });
        let what = format!("{instances} instances");
        println!("{what:<28} {whole:>10.0} {environments:>20.0} {reload:>14.0}");
    }
}

fn sources(instances: usize) -> Sources {
    Sources {
        procfile: Text::new(
            "Procfile",
            "web: bin/server --port $PORT\nworker: bin/worker\nclock: bin/clock\n",
        ),
        env_files: vec![Text::new(".env", "A=1\nB=two\nC='three'\n")],
        manifest: None,
        environment: (0..30).map(|n| (format!("INHERITED_{n}").into(), "some value".into())).collect(),
        root: "/srv/app".into(),
        options: Options::default().giving("formation", Given::new("-m", [format!("web={instances}")])),
        machine: Machine { memory: 8 << 30, cpus: 2, pid_max: 32_768 },
        socket: None,
    }
}

/// How often a second, the best of some rounds.
fn per_second(run: &dyn Fn() -> usize) -> f64 {
    let mut best = 0f64;
    for _ in 0..5 {
        let (start, mut count) = (Instant::now(), 0u32);
        while start.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(run());
            count += 1;
        }
        best = best.max(f64::from(count) / start.elapsed().as_secs_f64());
    }
    best
}
