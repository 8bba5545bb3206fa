//! What the runtimes of the common languages print when a program dies of an error, picked out of its last lines.
//!
//! | language | what is looked for |
//! | --- | --- |
//! | python | a traceback: its last line, and the innermost frame that is no library's |
//! | node | `Error: …` above `    at … (file:line:column)` |
//! | java | `Exception in thread …`, or the last `Caused by: …`, and the first `at` below it |
//! | rust | `thread 'x' panicked at file:line:column:` and the line after it |
//! | go | `panic: …`, `fatal error: …`, and the innermost frame that is no runtime's |
//! | ruby | `file:line:in 'x': … (Class)` |
//! | perl | `… at file line N.` |
//! | c++ | `terminate called after throwing …` and its `what():` |
//! | c | a failed `assert` |
//!
//! The last one that is found is the one: a program that logs an error and goes on has more to say. What is no
//! whole trace, because lines are missing, is found as far as it goes.
//!
//! Pure, and a guess: nothing is decided by it. It knows no program, only what the runtimes themselves print.

use std::borrow::Cow;

/// The longest message or place that is kept, in bytes.
pub const LONGEST: usize = 512;

/// An error, as the runtime of its language tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// `python`.
    pub language: &'static str,
    /// `ValueError: invalid literal`.
    pub message: String,
    /// `app.py:12 in parse`; columns where the language tells them.
    pub location: Option<String>,
}

impl Trace {
    fn new(language: &'static str, message: &str, location: Option<String>) -> Trace {
        let message = short(message.trim()).into_owned();
        Trace { language, message, location: location.map(|place| short(&place).into_owned()) }
    }
}

/// The last error among these lines, the oldest first.
pub fn find<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Trace> {
    let lines: Vec<String> = lines.into_iter().map(plain).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    (0..lines.len()).rev().find_map(|at| {
        let rest = &lines[at..];
        // Each begins where its message or its first frame is; what belongs to it follows or goes before.
        rust(rest)
            .or_else(|| go(rest))
            .or_else(|| python(&lines, at))
            .or_else(|| node_or_java(&lines, at))
            .or_else(|| ruby(rest))
            .or_else(|| cpp(rest))
            .or_else(|| assertion(rest[0]))
            .or_else(|| perl(rest[0]))
    })
}

/// The command that a shell says it could not find: `sh: 1: foo: not found`, `bash: line 1: foo: command not
/// found`, `zsh:1: command not found: foo`. The last one.
pub fn missing_command<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let last = |line: &[u8]| {
        let line = plain(line);
        let line = line.trim_end();
        let before = line.strip_suffix(": command not found").or_else(|| line.strip_suffix(": not found"));
        let before = before
            .or_else(|| line.strip_suffix(": No such file or directory").filter(|_| is_of_a_shell(line)));
        let name = match before {
            Some(before) => before.rsplit(": ").next()?,
            None => line.split_once("command not found: ")?.1,
        };
        (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| short(name).into_owned())
    };
    lines.into_iter().filter_map(last).last()
}

/// `/bin/sh: 1: …`, `bash: line 3: …`
fn is_of_a_shell(line: &str) -> bool {
    let mut parts = line.split(": ");
    let shell = parts.next().is_some_and(|program| program.ends_with("sh"));
    let number = |part: &str| part.strip_prefix("line ").unwrap_or(part).bytes().all(|b| b.is_ascii_digit());
    shell && parts.next().is_some_and(number)
}

/// A line as text, without colours and the carriage return of a terminal.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.trim_end_matches('\r');
    while let Some((before, after)) = rest.split_once("\x1b[") {
        shown.push_str(before);
        let parameters = after.bytes().take_while(|b| matches!(b, b'0'..=b'9' | b';' | b':')).count();
        rest = after[parameters..].strip_prefix('m').unwrap_or(after);
    }
    shown.push_str(rest);
    shown
}

/// With a mark where it was cut.
fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

fn rust(rest: &[&str]) -> Option<Trace> {
    let (_, after) = rest[0].split_once("thread '")?;
    let (_, after) = after.split_once(" panicked at ")?;
    // Before Rust 1.73: `panicked at 'message', src/main.rs:4:5`.
    if let Some(quoted) = after.strip_prefix('\'') {
        let (message, location) = quoted.rsplit_once("', ")?;
        return Some(Trace::new("rust", message, Some(location.to_owned())));
    }
    let message = rest.get(1).copied().unwrap_or_default();
    Some(Trace::new("rust", message, Some(after.trim_end_matches(':').to_owned())))
}

fn go(rest: &[&str]) -> Option<Trace> {
    let is_fatal = rest[0].starts_with("fatal error: ");
    if !is_fatal && !rest[0].starts_with("panic: ") {
        return None;
    }
    let goroutine = rest.iter().position(|line| line.starts_with("goroutine ") && line.ends_with("]:"));
    // `fatal error:` alone is said by many.
    let goroutine = match goroutine {
        None if is_fatal => return None,
        found => found,
    };
    let frames = goroutine.map_or(&[][..], |at| &rest[at + 1..]);
    let frames = frames.iter().take_while(|line| !line.is_empty()).filter_map(|line| {
        let place = line.strip_prefix('\t')?.split(' ').next()?;
        place.contains(".go:").then_some(place)
    });
    let frames: Vec<&str> = frames.collect();
    let own = |place: &&&str| !place.contains("/src/runtime/") && !place.contains("/pkg/mod/");
    let place = frames.iter().find(own).or(frames.first());
    Some(Trace::new("go", rest[0], place.map(|place| (*place).to_owned())))
}

/// Begins at a frame or at the heading, whichever is the last that is left of it.
fn python(lines: &[&str], at: usize) -> Option<Trace> {
    let (mut place, _) = python_frame(lines[at])?;
    // Below the innermost frame: its source, a mark, and then the message.
    let below = lines[at + 1..].iter().position(|line| !line.starts_with(char::is_whitespace))?;
    let message = lines[at + 1..][below];
    if !is_class(message.split(": ").next()?) {
        return None;
    }
    // Frames above it, innermost first, until one is the program's own.
    let above = lines[..=at].iter().rev().take_while(|line| line.starts_with(char::is_whitespace));
    if let Some((own, _)) = above.filter_map(|line| python_frame(line)).find(|(_, own)| *own) {
        place = own;
    }
    Some(Trace::new("python", message, Some(place)))
}

/// `  File "/srv/app.py", line 12, in parse`; whether it is no library's.
fn python_frame(line: &str) -> Option<(String, bool)> {
    let (indent, after) = line.split_once("File \"")?;
    let (file, after) = after.split_once("\", line ")?;
    if indent.is_empty() || !indent.trim().is_empty() {
        return None;
    }
    let (number, inside) = after.split_once(", in ").map_or((after, ""), |(n, inside)| (n, inside));
    let own =
        !["/lib/python", "site-packages", "dist-packages", "<frozen "].iter().any(|of| file.contains(of));
    let inside = if inside.is_empty() { String::new() } else { format!(" in {inside}") };
    Some((format!("{file}:{number}{inside}"), own))
}

/// `json.decoder.JSONDecodeError`, `KeyError`
fn is_class(name: &str) -> bool {
    let name = name.trim_end_matches(':');
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.split('.').all(part)
}

/// Begins at the first frame below a message.
fn node_or_java(lines: &[&str], at: usize) -> Option<Trace> {
    let (language, _) = frame_of(lines[at])?;
    let is_frame = |line: &str| frame_of(line).is_some_and(|(of, _)| of == language);
    if at == 0 || is_frame(lines[at - 1]) {
        return None;
    }
    // A message may have several lines; the first says which error it is.
    let above = lines[..at].iter().rev().take(8).take_while(|line| !is_frame(line));
    let message = above.copied().find_map(|line| error_line(line, language))?;
    let frames: Vec<String> =
        lines[at..].iter().map_while(|line| frame_of(line)).map(|(_, place)| place).collect();
    let own = |place: &&String| {
        language == "java" || !["node:", "/node_modules/", "internal/"].iter().any(|of| place.contains(of))
    };
    let place = frames.iter().find(own).or(frames.first());
    Some(Trace::new(language, message, place.cloned()))
}

/// Whose frame a line is, and where that is.
fn frame_of(line: &str) -> Option<(&'static str, String)> {
    let frame = line.trim_start().strip_prefix("at ").filter(|_| line.starts_with(char::is_whitespace))?;
    let frame = frame.trim_end();
    let (name, place) = match frame.strip_suffix(')').and_then(|frame| frame.rsplit_once('(')) {
        Some((name, place)) => (name.trim(), place),
        None => ("", frame),
    };
    let (rest, last) = place.rsplit_once(':').unwrap_or((place, ""));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_java = [".java", ".kt", ".scala", ".groovy", ".clj"].iter().any(|end| rest.ends_with(end));
    if (is_java && number(last)) || ["Native Method", "Unknown Source"].contains(&place) {
        return Some(("java", format!("{place} in {name}")));
    }
    let (_, line) = rest.rsplit_once(':')?;
    let inside = if name.is_empty() { String::new() } else { format!(" in {name}") };
    (number(last) && number(line)).then(|| ("node", format!("{place}{inside}")))
}

/// What the line above the frames says, without who says it.
fn error_line<'a>(line: &'a str, language: &str) -> Option<&'a str> {
    let mut text = line.trim_start_matches("Uncaught ").trim_start_matches("Caused by: ");
    if let Some(after) = text.strip_prefix("Exception in thread \"") {
        text = after.split_once("\" ")?.1;
    }
    // `Error [ERR_X]: …`
    let class = text.split(": ").next()?.split(" [").next()?;
    let is_error = match language {
        "java" => class.contains('.') && !class.contains(' '),
        _ => class.ends_with("Error") || class.ends_with("Exception"),
    };
    (is_error && is_class(class)).then_some(text)
}

/// `app.rb:3:in 'Object#foo': boom (RuntimeError)`
fn ruby(rest: &[&str]) -> Option<Trace> {
    let (place, after) = rest[0].split_once(":in ")?;
    let (file, number) = place.rsplit_once(':')?;
    let (inside, message) = after.strip_prefix(['\'', '`'])?.split_once("': ")?;
    let class = message.strip_suffix(')')?.rsplit_once(" (")?.1;
    let whole = !file.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && class.contains(char::is_uppercase);
    whole.then(|| Trace::new("ruby", message, Some(format!("{place} in {inside}"))))
}

/// `boom at app.pl line 3.`, also `…, <STDIN> line 7.`
fn perl(line: &str) -> Option<Trace> {
    let line = line.trim_end().strip_suffix('.')?;
    let line = line.rsplit_once(", <").map_or(line, |(before, _)| before);
    let (before, number) = line.rsplit_once(" line ")?;
    let (message, file) = before.rsplit_once(" at ")?;
    let is_place = !file.is_empty() && !file.contains(' ') && !number.is_empty();
    let whole = is_place && number.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| Trace::new("perl", message, Some(format!("{file}:{number}"))))
}

fn cpp(rest: &[&str]) -> Option<Trace> {
    let after = rest[0].strip_prefix("terminate called after throwing an instance of '")?;
    let class = after.trim_end_matches('\'');
    let what = rest.get(1).and_then(|line| line.trim_start().strip_prefix("what():"));
    let message = what.map_or(class.to_owned(), |what| format!("{class}: {}", what.trim()));
    Some(Trace::new("c++", &message, None))
}

/// glibc's: ``prog: main.c:7: main: Assertion `x > 0' failed.``
fn assertion(line: &str) -> Option<Trace> {
    let (before, what) = line.split_once(": Assertion ")?;
    let what = what.strip_suffix(" failed.")?;
    let mut parts = before.rsplitn(3, ": ");
    let (inside, place) = (parts.next()?, parts.next()?);
    Some(Trace::new("c", &format!("Assertion {what} failed"), Some(format!("{place} in {inside}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(&'static str, String, String)> {
        let trace = find(text.lines().map(str::as_bytes))?;
        Some((trace.language, trace.message, trace.location.unwrap_or_default()))
    }

    #[track_caller]
    fn is(text: &str, language: &'static str, message: &str, location: &str) {
        assert_eq!(found(text), Some((language, message.to_owned(), location.to_owned())), "{text}");
    }

    #[test]
    fn python_traceback() {
        is(
            r#"starting
Traceback (most recent call last):
  File "/srv/app/main.py", line 12, in <module>
    main()
    ~~~~^^
  File "/srv/app/main.py", line 8, in main
    json.loads("x")
  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads
    return _default_decoder.decode(s)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"#,
            "python",
            "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
            "/srv/app/main.py:8 in main",
        );
        // No message of its own, and everything in libraries: the innermost.
        is(
            "Traceback (most recent call last):\n  File \"/usr/lib/python3.11/runpy.py\", line 9, in run\n    x()\nKeyboardInterrupt",
            "python",
            "KeyboardInterrupt",
            "/usr/lib/python3.11/runpy.py:9 in run",
        );
        is(
            "  File \"/srv/x.py\", line 1\n    def (\n        ^\nSyntaxError: invalid syntax",
            "python",
            "SyntaxError: invalid syntax",
            "/srv/x.py:1",
        );
    }

    #[test]
    fn python_of_two_that_are_chained_the_last() {
        let text = r#"Traceback (most recent call last):
  File "a.py", line 2, in <module>
    {}["x"]
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 4, in <module>
    raise ValueError("no x")
ValueError: no x
exiting"#;
        is(text, "python", "ValueError: no x", "a.py:4 in <module>");
    }

    #[test]
    fn node_stack() {
        is(
            "/srv/app/index.js:3
  throw new Error('boom');
  ^

Error: boom
    at start (/srv/app/index.js:3:9)
    at Object.<anonymous> (/srv/app/index.js:6:1)
    at Module._compile (node:internal/modules/cjs/loader:1105:14)

Node.js v18.19.0",
            "node",
            "Error: boom",
            "/srv/app/index.js:3:9 in start",
        );
        is(
            "node:internal/modules/cjs/loader:1080
  throw err;
  ^

Error: Cannot find module 'left-pad'
Require stack:
- /srv/app/index.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1077:15)
    at Object.<anonymous> (/srv/app/index.js:1:7) {
  code: 'MODULE_NOT_FOUND',",
            "node",
            "Error: Cannot find module 'left-pad'",
            "node:internal/modules/cjs/loader:1077:15 in Module._resolveFilename",
        );
        is(
            "TypeError [ERR_INVALID_ARG_TYPE]: The \"path\" argument must be of type string
    at /srv/app/node_modules/x/lib.js:3:9
    at file:///srv/app/index.mjs:7:3",
            "node",
            "TypeError [ERR_INVALID_ARG_TYPE]: The \"path\" argument must be of type string",
            "file:///srv/app/index.mjs:7:3",
        );
    }

    #[test]
    fn java_exception_and_its_cause() {
        is(
            "Exception in thread \"main\" java.lang.NullPointerException: Cannot invoke \"String.length()\"
\tat com.example.Shop.price(Shop.java:17)
\tat com.example.Shop.main(Shop.java:5)",
            "java",
            "java.lang.NullPointerException: Cannot invoke \"String.length()\"",
            "Shop.java:17 in com.example.Shop.price",
        );
        is(
            "Exception in thread \"main\" java.lang.RuntimeException: cannot start
\tat com.example.Shop.main(Shop.java:5)
Caused by: java.io.FileNotFoundException: shop.xml (No such file or directory)
\tat java.base/java.io.FileInputStream.open0(Native Method)
\tat com.example.Shop.load(Shop.java:9)
\t... 1 more",
            "java",
            "java.io.FileNotFoundException: shop.xml (No such file or directory)",
            "Native Method in java.base/java.io.FileInputStream.open0",
        );
    }

    #[test]
    fn rust_panic_of_every_age() {
        let note = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
        let message = "index out of bounds: the len is 3 but the index is 99";
        for (head, line) in [
            ("thread 'main' panicked at src/main.rs:4:5:", message),
            ("thread 'main' (4711) panicked at src/main.rs:4:5:", message),
        ] {
            is(&format!("\n{head}\n{line}\n{note}"), "rust", message, "src/main.rs:4:5");
        }
        let old = format!("thread 'tokio-runtime-worker' panicked at '{message}', src/main.rs:4:5\n{note}");
        is(&old, "rust", message, "src/main.rs:4:5");
    }

    #[test]
    fn go_panic_and_deadlock() {
        is(
            "panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
panic({0x45e0a0?, 0xc0000b2000?})
\t/usr/local/go/src/runtime/panic.go:770 +0x132
main.pick(...)
\t/srv/app/main.go:8
main.main()
\t/srv/app/main.go:4 +0x1d
exit status 2",
            "go",
            "panic: runtime error: index out of range [5] with length 3",
            "/srv/app/main.go:8",
        );
        is(
            "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\nmain.main()\n\t/srv/app/main.go:5 +0x31",
            "go",
            "fatal error: all goroutines are asleep - deadlock!",
            "/srv/app/main.go:5",
        );
        assert_eq!(found("fatal error: cannot open the database"), None);
    }

    #[test]
    fn ruby_of_both_quotes() {
        is(
            "app.rb:3:in `price': undefined method `length' for nil:NilClass (NoMethodError)\n\tfrom app.rb:6:in `<main>'",
            "ruby",
            "undefined method `length' for nil:NilClass (NoMethodError)",
            "app.rb:3 in price",
        );
        is(
            "/srv/app.rb:1:in 'Integer#/': divided by 0 (ZeroDivisionError)\n\tfrom /srv/app.rb:1:in '<main>'",
            "ruby",
            "divided by 0 (ZeroDivisionError)",
            "/srv/app.rb:1 in Integer#/",
        );
    }

    #[test]
    fn perl_c_and_cpp() {
        is("cannot open x at /srv/app.pl line 3.", "perl", "cannot open x", "/srv/app.pl:3");
        is("bad input at app.pl line 3, <STDIN> line 7.", "perl", "bad input", "app.pl:3");
        is(
            "terminate called after throwing an instance of 'std::out_of_range'\n  what():  vector::_M_range_check",
            "c++",
            "std::out_of_range: vector::_M_range_check",
            "",
        );
        is(
            "shop: main.c:7: main: Assertion `n > 0' failed.",
            "c",
            "Assertion `n > 0' failed",
            "main.c:7 in main",
        );
    }

    /// What the runtimes that are here print themselves.
    #[test]
    fn what_runtimes_print_is_understood() {
        let run = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).output();
            let output = output.map_err(|error| skipped!("{program}: {error}")).ok()?;
            Some(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        if let Some(text) = run("python3", &["-c", "def f():\n  import json\n  json.loads('{')\nf()"]) {
            let (language, message, place) = found(&text).expect("a traceback");
            assert_eq!((language, place.as_str()), ("python", "<string>:3 in f"), "{text}");
            assert!(
                message.starts_with("json.decoder.JSONDecodeError: Expecting property name"),
                "{message}"
            );
        }
        if let Some(text) = run("perl", &["-e", "die 'no luck'"]) {
            is(&text, "perl", "no luck", "-e:1");
        }
    }

    #[test]
    fn colours_are_no_part_of_it() {
        is(
            "\x1b[1m\x1b[31mthread 'main' panicked at src/main.rs:4:5:\x1b[0m\r\n\x1b[31mboom\x1b[0m\r",
            "rust",
            "boom",
            "src/main.rs:4:5",
        );
    }

    #[test]
    fn what_is_no_error_is_none() {
        for text in [
            "",
            "listening on 5000",
            "Error: cannot connect",
            "    at the end of the day",
            "look at this",
            "meet me at noon in line 3.",
            "  File \"x.py\", line 3",
            "thread 'main' started",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_message_is_cut_with_a_mark() {
        let text = format!("thread 'main' panicked at src/main.rs:4:5:\n{}", "ü".repeat(LONGEST));
        let (_, message, _) = found(&text).expect("a panic");
        assert_eq!(message, format!("{}…", "ü".repeat(LONGEST / 2)));
    }

    #[test]
    fn shells_say_what_is_missing() {
        let missing = |text: &str| missing_command(text.lines().map(str::as_bytes));
        for text in [
            "/bin/sh: 1: gunicron: not found",
            "sh: 1: exec: gunicron: not found",
            "bash: line 1: gunicron: command not found",
            "zsh:1: command not found: gunicron",
            "up\nsh: 2: gunicron: not found\nbye",
            "bash: line 1: gunicron: No such file or directory",
        ] {
            assert_eq!(missing(text).as_deref(), Some("gunicron"), "{text}");
        }
        for text in ["404: the page was not found", "cat: x: No such file or directory", ": not found"] {
            assert_eq!(missing(text), None, "{text}");
        }
    }
}
