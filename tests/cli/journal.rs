//! `--log journald`, held against a real systemd-journald in a mount namespace of its own.

use std::path::Path;

use serde_json::Value;

use crate::stack::{Ended, LPM, Stack, is_root};

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// Brings a journal of its own up below a /run of its own; `restart` puts another in its place. `entries` are those
/// of this boot, as JSON, on standard output.
const WITH_JOURNAL: &str = r#"
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journald.conf.d /run/log/journal
echo 0123456789abcdef0123456789abcdef >/run/machine-id
mount --bind /run/machine-id /etc/machine-id
printf '[Journal]\nReadKMsg=no\nAudit=no\nStorage=volatile\nForwardToSyslog=no\nRateLimitIntervalSec=0\n' >/run/systemd/journald.conf.d/lpm.conf
journald() { /lib/systemd/systemd-journald & journal=$!; until [ -S /run/systemd/journal/socket ]; do sleep 0.01; done; }
gone() { kill "$1"; wait "$1" || true; rm -f /run/systemd/journal/socket; }
restart() { gone $journal; journald; }
entries() { journalctl --sync; journalctl --directory=/run/log/journal --all --output=json "$@"; }
trap 'gone $journal' EXIT
journald
"#;

/// Runs `script` with such a journal; none where there is no journald, or we may not mount.
fn with_journal(test: &str, stack: &Stack, script: &str) -> Option<Ended> {
    if !is_root() || !Path::new(JOURNALD).exists() {
        skipped!("{test}: needs root and {JOURNALD}");
        return None;
    }
    let script = format!("{WITH_JOURNAL}lpm() {{ {LPM} \"$@\"; }}\n{script}");
    Some(stack.program_with("unshare", &["-m", "sh", "-c", &script]).pipes().ends())
}

fn entries(ended: &Ended) -> Vec<Value> {
    ended.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn find<'a>(entries: &'a [Value], field: &str, value: &str) -> &'a Value {
    let found = entries.iter().find(|entry| entry[field] == value);
    found.unwrap_or_else(|| panic!("no {field}={value} in {entries:#?}"))
}

#[test]
fn lines_and_events_are_found_by_their_fields() {
    let procfile =
        "web: echo hello; echo '<3>bad' >&2; head -c 300000 /dev/zero | tr '\\0' y; echo; exit 3\n";
    let stack = Stack::with("journal", procfile);
    let script = "lpm start --log journald --split-stderr || true; entries LPM_INSTANCE=web.1";
    let Some(ended) = with_journal("lines_and_events_are_found_by_their_fields", &stack, script) else {
        return;
    };
    let all = entries(&ended.with_code(0));
    let hello = find(&all, "MESSAGE", "hello");
    for (field, value) in [
        ("SYSLOG_IDENTIFIER", "web.1"),
        ("LPM_PROCESS", "web"),
        ("LPM_STREAM", "out"),
        ("LPM_INVOCATION", "1"),
        ("PRIORITY", "6"),
    ] {
        assert_eq!(hello[field], value, "{field}");
    }
    assert!(hello["LPM_STACK"].as_str().is_some_and(|name| name.starts_with("journal-")), "{hello}");
    let bad = find(&all, "MESSAGE", "bad");
    assert_eq!((&bad["PRIORITY"], &bad["LPM_STREAM"]), (&"3".into(), &"err".into()));
    let ended = find(&all, "LPM_EVENT", "ended");
    assert_eq!((&ended["LPM_EXIT_CODE"], &ended["LPM_RESULT"]), (&"3".into(), &"exit-code".into()));
    assert_eq!(ended["MESSAGE_ID"], "9bd06228363847c294f97066a386ee9c");
    assert!(ended["LPM_CPU_USEC"].as_str().is_some_and(|usec| usec.parse::<u64>().is_ok()), "{ended}");
    let started = find(&all, "LPM_EVENT", "started");
    assert!(started["LPM_PID"].is_string());
    // An event is its line, not beside it; and the last line of the instance comes before its end.
    let texts: Vec<&str> = all.iter().filter_map(|entry| entry["MESSAGE"].as_str()).collect();
    assert_eq!(texts.iter().filter(|text| text.starts_with("exited with code 3")).count(), 1, "{texts:?}");
    assert!(texts.last().is_some_and(|text| text.starts_with("exited")), "{texts:?}");
    let long: usize = texts.iter().filter(|text| text.starts_with('y')).map(|text| text.len()).sum();
    assert_eq!(long, 300_000, "in parts, and whole");
}

#[test]
fn a_journal_that_is_started_anew_gets_what_was_not_sent() {
    let procfile = "web: seq -f 'before %g' 100; until [ -e go ]; do sleep 0.01; done; seq -f 'meanwhile %g' 100; \
                    touch gone; until [ -e back ]; do sleep 0.01; done; seq -f 'after %g' 100; exit 3\n";
    let stack = Stack::with("journal-anew", procfile);
    let script = "lpm start --log journald & lpm=$!\n\
                  until entries LPM_INSTANCE=web.1 | grep -q 'before 100'; do sleep 0.05; done\n\
                  gone $journal; touch go; until [ -e gone ]; do sleep 0.01; done\n\
                  journald; touch back; wait $lpm || true; entries LPM_INSTANCE=web.1";
    let Some(ended) = with_journal("a_journal_that_is_started_anew_gets_what_was_not_sent", &stack, script)
    else {
        return;
    };
    let all = entries(&ended.with_code(0));
    let texts: Vec<&str> = all.iter().filter_map(|entry| entry["MESSAGE"].as_str()).collect();
    for when in ["before", "meanwhile", "after"] {
        for number in 1..=100 {
            let line = format!("{when} {number}");
            assert_eq!(texts.iter().filter(|text| **text == line).count(), 1, "{line}: {texts:?}");
        }
    }
}

#[test]
fn where_standard_output_is_the_journal_it_is_told_directly() {
    let stack = Stack::with("journal-stream", "web: echo hello\n");
    let script = "touch out; export JOURNAL_STREAM=$(stat -c %d:%i out); lpm start >out\n\
                  entries LPM_INSTANCE=web.1 MESSAGE=hello; cat out";
    const NAME: &str = "where_standard_output_is_the_journal_it_is_told_directly";
    let Some(ended) = with_journal(NAME, &stack, script) else { return };
    let ended = ended.with_code(0);
    assert_eq!((entries(&ended).len(), ended.out.lines().count()), (1, 1), "{}", ended.out);
}

#[test]
fn without_a_journal_nothing_is_started() {
    if !is_root() {
        return skipped!("without_a_journal_nothing_is_started: needs root to hide the journal");
    }
    let stack = Stack::with("no-journal", "web: echo up\n");
    let script = format!("mount -t tmpfs none /run && exec {LPM} start --log journald");
    let ended = stack.program_with("unshare", &["-m", "sh", "-c", &script]).pipes().ends().with_code(1);
    assert_eq!(ended.out, "");
    let expected = "lpm: --log: the journal cannot be reached: /run/systemd/journal/socket: No such file or \
                    directory (does systemd-journald run?)\n";
    assert_eq!(ended.err, expected);
}

#[test]
fn a_journal_that_does_not_read_holds_nobody_up() {
    const NAME: &str = "a_journal_that_does_not_read_holds_nobody_up";
    let stack = Stack::with(
        "journal-stuck",
        "web: seq 300000; touch said; until [ -e go ]; do sleep 0.01; done; exit 3\n",
    );
    let script = "kill -STOP $journal; lpm start --log file=log,journald & lpm=$!\n\
                  until [ -e said ]; do sleep 0.01; done\n\
                  kill -CONT $journal; touch go; wait $lpm || true\n\
                  entries LPM_INSTANCE=web.1 + SYSLOG_IDENTIFIER=lpm";
    let Some(ended) = with_journal(NAME, &stack, script) else { return };
    let all = entries(&ended.with_code(0));
    let missed =
        all.iter().filter_map(|entry| entry["LPM_MISSED"].as_str()?.parse::<usize>().ok()).sum::<usize>();
    let told = all.iter().filter(|entry| {
        let text = entry["MESSAGE"].as_str().unwrap_or_default();
        text.bytes().all(|byte| byte.is_ascii_digit())
    });
    let told = told.count();
    assert!(missed > 100_000 && told > 1000, "{missed} missed, {told} told");
    // Two lines are lpm's, and may be among those missed.
    assert!((300_000..=300_002).contains(&(missed + told)), "{missed} missed, {told} told");
    let kept = std::fs::read_to_string(stack.path().join("log/web.1.log")).expect("it is there");
    assert!(kept.lines().filter(|line| line.contains("| ")).count() > 300_000, "files have them all");
}

#[test]
fn who_stops_does_not_wait_for_a_journal_that_does_not_read() {
    const NAME: &str = "who_stops_does_not_wait_for_a_journal_that_does_not_read";
    let stack = Stack::with("journal-late", "web: seq 10000; echo last; exit 3\n");
    let script = "kill -STOP $journal; lpm start --log terminal,journald | grep -c '^'; kill -CONT $journal";
    let Some(ended) = with_journal(NAME, &stack, script) else { return };
    let ended = ended.with_code(0);
    assert!(ended.out.trim().parse::<u32>().is_ok_and(|lines| lines > 10_000), "{}", ended.out);
    assert!(ended.err.contains("the journal did not take the last lines in time"), "{}", ended.err);
}

#[test]
fn what_an_instance_sends_itself_is_its_own() {
    const NAME: &str = "what_an_instance_sends_itself_is_its_own";
    let stack = Stack::with("journal-direct", "web: echo \"pid $$ of $JOURNAL_STREAM\"; echo '<3>bad'; exit 3\nclock: echo seen; sleep 0.2\n")
        .file("lpm.toml", "[defaults]\ncan-die = true\n[process.web]\nlog = \"journald-direct\"\n[process.clock]\nlog = \"terminal\"\n");
    let script = "lpm start --log-rotate '' || true; echo ----; entries";
    let Some(ended) = with_journal(NAME, &stack, script) else { return };
    let ended = ended.with_code(0);
    let (shown, _) = ended.out.split_once("----").expect("both");
    assert!(shown.contains("clock.1 | seen") && !shown.contains("of "), "{shown}");
    let all = entries(&ended);
    let first =
        all.iter().find(|entry| entry["MESSAGE"].as_str().is_some_and(|text| text.starts_with("pid ")));
    let first = first.unwrap_or_else(|| panic!("its own line in {all:#?}"));
    let text = first["MESSAGE"].as_str().expect("text");
    assert_eq!(
        text,
        format!(
            "pid {} of {}",
            first["_PID"].as_str().expect("who"),
            text.rsplit(' ').next().expect("where")
        )
    );
    assert!(text.contains(':'), "it is told where it writes: {text}");
    assert_eq!((&first["SYSLOG_IDENTIFIER"], &first["_TRANSPORT"]), (&"web.1".into(), &"stdout".into()));
    assert_eq!(find(&all, "MESSAGE", "bad")["PRIORITY"], "3");
    // What happens to it, lpm tells; of the others the journal has nothing.
    assert_eq!(find(&all, "LPM_EVENT", "ended")["LPM_INSTANCE"], "web.1");
    assert!(all.iter().all(|entry| entry["LPM_INSTANCE"] != "clock.1"), "{all:#?}");
}

#[test]
fn older_lines_come_from_the_journal() {
    const NAME: &str = "older_lines_come_from_the_journal";
    // Two times 60 lines of 16000 characters are more than is kept.
    let procfile = "web: seq -f 'one %g' 3; until [ -e working ]; do sleep 0.01; done; [ -e second ] || exit 0; say() { seq -f \"two %016000.0f\" $1 $2; }; \
                    say 1 60; until [ -e more ]; do sleep 0.01; done; say 61 120; exec sleep 1000\n\
                    worker: echo working; touch working; exec sleep 1000\n";
    let stack = Stack::with("journal-older", procfile);
    let script = "has() { until entries LPM_INSTANCE=web.1 | grep -q \"0$1\\\"\"; do sleep 0.05; done; }\n\
                  lpm start --log journald >first; lpm logs web -p info -g '^one' && lpm logs -n 1 --json web\n\
                  touch second; lpm start -D --log journald >>first; has 60; touch more; has 120\n\
                  echo ----; lpm logs web | grep -c two; echo ----; lpm logs -n 110 web; echo ----\n\
                  lpm logs --since 10min --no-prefix --stream out | cut -c 1-7; lpm down >>first";
    let Some(ended) = with_journal(NAME, &stack, script) else { return };
    let ended = ended.with_code(0);
    let parts: Vec<&str> = ended.out.split("----\n").collect();
    let [past, ring, last, since] = parts[..] else { panic!("{}", ended.out) };
    let past: Vec<&str> = past.lines().collect();
    assert_eq!(past.len(), 4, "{past:?}");
    assert!((1..=3).all(|n| past[n - 1].ends_with(&format!("web.1  | one {n}"))), "{past:?}");
    let json: Value = serde_json::from_str(past[3]).expect("an object");
    assert_eq!((&json["source"], &json["line"]["stream"]), (&"journal".into(), &"lpm".into()));
    let told = "no stack runs here; this is from the journal (journalctl LPM_ROOT=";
    assert!(ended.err.contains(told), "{}", ended.err);
    let kept: usize = ring.trim().parse().expect("a number");
    assert!((30..100).contains(&kept), "what is kept alone: {kept}");
    let number = |line: &str| line.rsplit("two ").next().and_then(|text| text.parse::<u32>().ok());
    let last: Vec<u32> = last.lines().filter_map(number).collect();
    assert_eq!(last, (11..=120).collect::<Vec<_>>(), "each once, in order");
    let told = "older lines are from the journal (journalctl LPM_STACK=";
    assert!(ended.err.contains(told), "{}", ended.err);
    let lines = |of: &str| since.lines().filter(|line| line.starts_with(of)).count();
    assert_eq!((lines("one"), lines("two"), lines("working")), (6, 120, 2), "of both runs: {since}");
}

#[test]
fn diagnostics_go_where_the_stacks_own_lines_go() {
    const NAME: &str = "diagnostics_go_where_the_stacks_own_lines_go";
    let stack = Stack::with("journal-debug", "web: echo up\n");
    let script = "LPM_DEBUG=debug lpm start --log journald || true; entries SYSLOG_IDENTIFIER=lpm";
    let Some(ended) = with_journal(NAME, &stack, script) else { return };
    let ended = ended.with_code(0);
    assert!(!ended.err.contains("fact"), "{}", ended.err);
    let all = entries(&ended);
    let begin = find(&all, "MESSAGE", "fact Begin");
    assert_eq!((&begin["PRIORITY"], &begin["LPM_MODULE"]), (&"7".into(), &"lpm::driver".into()), "{begin}");
    assert!(begin["LPM_STACK"].as_str().is_some_and(|name| name.starts_with("journal-debug")), "{begin}");
    let spawned =
        |entry: &&Value| entry["MESSAGE"].as_str().is_some_and(|text| text.starts_with("order Spawn"));
    assert!(all.iter().any(|entry| spawned(&entry)), "{all:#?}");
}
