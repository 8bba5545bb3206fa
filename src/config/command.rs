//! A command's text: whether it needs a shell, and what `check` has to say about it.
//!
//! A command that is plainly a program and its arguments is executed directly, so that no idle `sh` stays for
//! each process. Plain means that a shell would do nothing but split it at blanks; anything else goes to the
//! shell untouched.

use super::stack::Command;

/// What a POSIX shell, dash or bash as `sh` would run itself or read as grammar (POSIX 2024 2.4, 2.15;
/// dash(1), bash(1)). Names that hold characters outside of [`is_plain_byte`] need no mention.
const BUILTINS: &str = "\
    . : alias bg bind break builtin caller case cd chdir command compgen complete compopt continue \
    coproc declare dirs disown do done echo elif else enable esac eval exec exit export false fc fg fi \
    for function getopts hash help history if in jobs kill let local logout mapfile popd printf pushd \
    pwd read readarray readonly return select set shift shopt source suspend test then time times trap \
    true type typeset ulimit umask unalias unset until wait while";

/// How `text` is executed.
pub fn command(text: &str) -> Command {
    if !is_plain(text) {
        return Command::Shell(text.to_owned());
    }
    let words = text.split_ascii_whitespace().map(str::to_owned).collect();
    Command::Direct { words, text: text.to_owned() }
}

/// Whether a shell would do nothing to `text` but split it at blanks.
pub fn is_plain(text: &str) -> bool {
    let plain = text.bytes().all(|byte| is_plain_byte(byte) || byte == b' ' || byte == b'\t');
    let Some(first) = text.split_ascii_whitespace().next() else { return false };
    // "%1" is a job to bash.
    plain && !first.contains('=') && !first.starts_with('%') && !BUILTINS.split(' ').any(|word| word == first)
}

fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(&byte)
}

/// Programs that hand the work to a daemon, which lpm neither started nor contains.
const ELSEWHERE: [&str; 12] = [
    "docker",
    "docker-compose",
    "podman",
    "nerdctl",
    "systemd-run",
    "systemctl",
    "machinectl",
    "at",
    "batch",
    "crontab",
    "lxc",
    "virsh",
];

/// Words that stand before the program itself.
const PREFIXES: [&str; 9] = ["exec", "env", "time", "nohup", "nice", "sudo", "command", "setsid", "bundle"];

/// Options by which well-known programs put themselves in the background.
const DAEMONIZE: [&str; 5] = ["--daemonize", "--daemon", "--background", "--detach", "-daemonize"];

/// What `check` says about a command that runs but may not do what it seems to; `unbuffered` says whether
/// PYTHONUNBUFFERED is set.
pub(super) fn notes(name: &str, text: &str, unbuffered: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let programs = programs(text);
    if let Some(program) = programs.iter().find(|program| ELSEWHERE.contains(program)) {
        notes.push(format!(
            "{name}: {program} hands its work to another daemon, \
             where no limit and no stop of lpm reaches it"
        ));
    }
    let daemonizes = text.split_ascii_whitespace().any(|word| DAEMONIZE.contains(&word));
    let background = text.trim_end().strip_suffix('&').is_some_and(|before| !before.ends_with(['&', '>']));
    if background || daemonizes {
        notes.push(format!(
            "{name}: the command goes to the background, so that its end comes at once \
             (keep it in the foreground)"
        ));
    }
    let python = programs.iter().any(|program| {
        let version = program.strip_prefix("python");
        version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    });
    let asked = text.contains("PYTHONUNBUFFERED") || text.split_ascii_whitespace().any(|word| word == "-u");
    if python && !unbuffered && !asked {
        notes.push(format!(
            "{name}: python holds its output back unless it writes to a terminal \
             (set PYTHONUNBUFFERED=1)"
        ));
    }
    notes
}

/// The words that stand where a shell expects a program, without their directories. Near enough for advice:
/// quotes are not understood.
fn programs(text: &str) -> Vec<&str> {
    let mut programs = Vec::new();
    for part in text.split([';', '&', '|', '(', ')', '`', '{']) {
        let program = part.split_ascii_whitespace().find(|word| {
            !word.starts_with('-') && !word.contains('=') && !PREFIXES.contains(word) && !is_keyword(word)
        });
        if let Some(program) = program {
            programs.push(program.rsplit('/').next().expect("a split has a part"));
        }
    }
    programs
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "if" | "then" | "else" | "elif" | "do" | "while" | "until" | "!" | "$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_and_its_arguments_need_no_shell() {
        for text in [
            "./serve",
            "bundle exec rails server -p 3000",
            "/usr/bin/env node server.js --opt=a,b",
            "redis-server\t--port  6379 ",
            "python3 -m http.server 8000",
            "-x",
            "sleep_echo user@host:path 50% +x",
        ] {
            assert!(is_plain(text), "{text}");
        }
        assert_eq!(
            command("redis-server\t--port  6379 "),
            Command::Direct {
                words: vec!["redis-server".into(), "--port".into(), "6379".into()],
                text: "redis-server\t--port  6379 ".into(),
            }
        );
    }

    #[test]
    fn what_a_shell_would_touch_goes_to_the_shell_untouched() {
        for text in [
            "echo $FOO $BAR",
            "FOOBAR=zz; echo $FOOBAR",
            "/bin/echo '$FOO'",
            "x && y",
            "x | y",
            "FOO=1 x",
            "echo \"unbalanced",
            "echo plain",
            "exec ./serve",
            ". ./env",
            ": nothing",
            "cd /srv",
            "true",
            "time ./serve",
            "! ./serve",
            "{ ./serve",
            "ls *.rb",
            "cat ~/x",
            "~/bin/serve",
            "./serve ?",
            "./serve [a]",
            "./serve #x",
            "./serve\\ x",
            "./serv\u{e9}",
            "%1",
            "A=b",
            "./serve\rx",
            "./serve > log",
            "",
            "  ",
        ] {
            assert_eq!(command(text), Command::Shell(text.to_owned()));
        }
    }

    #[test]
    fn what_leaves_the_stack_is_noted() {
        for text in [
            "docker run -p 80:80 nginx",
            "exec /usr/bin/docker compose up",
            "FOO=1 sudo -E podman run x",
            "cd x && systemd-run --user ./serve",
            "echo ./x | at now",
        ] {
            let notes = notes("web", text, true);
            assert!(notes.len() == 1 && notes[0].contains("another daemon"), "{text}: {notes:?}");
        }
        for text in ["./docker-entrypoint.sh", "echo at noon", "./run --docker", "node docker.js"] {
            assert_eq!(notes("web", text, true), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_goes_to_the_background_is_noted() {
        for text in ["./serve &", "redis-server --daemonize yes", "./serve >log 2>&1 &"] {
            assert!(notes("web", text, true)[0].contains("goes to the background"), "{text}");
        }
        assert_eq!(notes("web", "./a & ./b", true), [""; 0]);
    }

    #[test]
    fn pythons_buffering_is_explained() {
        for text in ["python app.py", "exec python3.12 app.py", "/usr/bin/python3 x"] {
            assert!(notes("web", text, false)[0].contains("PYTHONUNBUFFERED=1"), "{text}");
            assert_eq!(notes("web", text, true), [""; 0]);
        }
        for text in ["python -u app.py", "PYTHONUNBUFFERED=1 python x", "./python.sh"] {
            assert_eq!(notes("web", text, false), [""; 0], "{text}");
        }
    }
}
