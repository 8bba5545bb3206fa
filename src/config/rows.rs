//! The table of settings itself, in the order of lpm.toml. `table` says what a row means.

use super::stack::{ExitCodeRule, KillMode, Limits, RestartWhen};
use super::table::{Change, Default, Field, Group, Opt, Row, Scope, Takes};
use super::value::{Form, Kind, Value};
use super::words::{Precedence, Words};

/// Writes each row down once: as a static of its own, and in the list of all.
macro_rules! table {
    ($($name:ident = $row:expr;)*) => {
        $(#[doc = concat!("The row `", stringify!($name), "`.")] pub static $name: Row = $row;)*
        /// All rows.
        pub(super) static ROWS: &[&Row] = &[$(&$name),*];
    };
}

/// What all rows have in common that say nothing else.
const ROW: Row = Row {
    key: "",
    kind: Kind::Bool,
    scope: Scope::Process,
    change: Change::Live,
    default: Default::None(""),
    option: None,
    stack_option: None,
    systemd: None,
    means: "",
    field: Field::None,
};

/// The same for options.
const OPT: Opt = Opt {
    long: "",
    short: None,
    alias: None,
    variable: "",
    value_name: "",
    takes: Takes::Values,
    group: Group::Processes,
    help: "",
};

/// A limit of an instance, and in `[stack]` of all instances together.
const LIMIT: Row = Row { scope: Scope::Both, ..ROW };
const LIMIT_OPT: Opt = Opt { group: Group::Limits, ..OPT };
const STACK_LIMIT_OPT: Opt = Opt { takes: Takes::One, ..LIMIT_OPT };

/// A setting of the stack.
const STACK: Row = Row { scope: Scope::Stack, change: Change::Reload, ..ROW };
const STACK_OPT: Opt = Opt { takes: Takes::One, group: Group::Stack, ..OPT };
const OUTPUT_OPT: Opt = Opt { group: Group::Output, ..OPT };

fn size(ceiling: Option<super::stack::Ceiling>) -> Value {
    ceiling.map_or(Value::None, |ceiling| Value::Size(ceiling.into()))
}

table! {
    NAME = Row {
        key: "name",
        kind: Kind::Text(Form::Name),
        change: Change::NewStart,
        default: Default::None("the root's name"),
        means: "a label: two checkouts with one name are two stacks",
        option: Some(Opt {
            long: "name",
            variable: "LPM_NAME",
            value_name: "NAME",
            group: Group::Identity,
            help: "The stack's name [default: the root directory's name]",
            ..STACK_OPT
        }),
        field: Field::Stack(|stack| Value::Text(vec![stack.name.clone()])),
        ..STACK
    };
    FORMATION = Row {
        key: "formation",
        kind: Kind::Text(Form::Counts),
        default: Default::None("one of each"),
        means: "how many instances of each process type; what is not listed is off, unless `all=1` is in the list",
        option: Some(Opt {
            long: "formation",
            short: Some('m'),
            variable: "LPM_FORMATION",
            value_name: "LIST",
            group: Group::Processes,
            help: "How many of each, e.g. web=2,worker=1; what is not listed is off, unless all=1",
            ..STACK_OPT
        }),
        ..STACK
    };
    PORT = Row {
        key: "port",
        kind: Kind::Text(Form::Port),
        default: Default::None("`PORT` from an env file, then inherited, then 5000"),
        means: "the first port",
        option: Some(Opt {
            long: "port",
            short: Some('p'),
            variable: "LPM_PORT",
            value_name: "PORT",
            help: "The first port [default: PORT from an env file, then inherited, then 5000]",
            ..STACK_OPT
        }),
        ..STACK
    };
    PORT_STEP = Row {
        key: "port-step",
        kind: Kind::Text(Form::PortStep),
        default: Default::Value("100"),
        means: "distance between the ports of two process types",
        option: Some(Opt {
            long: "port-step",
            short: Some('P'),
            variable: "LPM_STEP",
            value_name: "N",
            help: "Distance between the ports of two process types [default: 100]",
            ..STACK_OPT
        }),
        ..STACK
    };
    INSTANCE_PORT_STEP = Row {
        key: "instance-port-step",
        kind: Kind::Text(Form::PortStep),
        default: Default::Value("1"),
        means: "distance between the ports of two instances of a process type",
        option: Some(Opt {
            long: "instance-port-step",
            alias: Some("formation-port-step"),
            variable: "LPM_INSTANCE_STEP",
            value_name: "N",
            help: "Distance between the ports of two instances of a process type [default: 1]",
            ..STACK_OPT
        }),
        ..STACK
    };
    ENV_PRECEDENCE = Row {
        key: "env-precedence",
        kind: Kind::Word { what: "a precedence", words: Precedence::all },
        default: Default::Value("file"),
        means: "which wins where both an env file and the inherited environment set a variable: `file` or `inherited`",
        option: Some(Opt {
            long: "env-precedence",
            variable: "LPM_ENV_PRECEDENCE",
            value_name: "WHICH",
            help: "Which wins if a variable is inherited and in an env file: file or inherited [default: file]",
            ..STACK_OPT
        }),
        ..STACK
    };
    EXPAND_ENV = Row {
        key: "expand-env",
        kind: Kind::Bool,
        default: Default::Value("no"),
        means: "expand `$NAME` and `${NAME}` in env files",
        option: Some(Opt {
            long: "expand-env",
            variable: "LPM_EXPAND_ENV",
            takes: Takes::Nothing,
            help: "Expand $NAME and ${NAME} in env files",
            ..STACK_OPT
        }),
        ..STACK
    };
    EXIT_CODE = Row {
        key: "exit-code",
        kind: Kind::Word { what: "an exit code rule", words: ExitCodeRule::all },
        default: Default::Value("first"),
        means: "[which instance decides](exit-codes.md): `first` (of what ended the stack), `worst`, `zero`",
        option: Some(Opt {
            long: "exit-code",
            variable: "LPM_EXIT_CODE",
            value_name: "RULE",
            group: Group::Processes,
            help: "Whose exit code becomes lpm's: first (of what ended the stack), worst, zero [default: first]",
            ..STACK_OPT
        }),
        field: Field::Stack(|stack| Value::Word(stack.exit_code.word())),
        ..STACK
    };
    LOG_ROTATE = Row {
        key: "log-rotate",
        kind: Kind::Text(Form::Rotation),
        change: Change::NewStart,
        default: Default::None("never"),
        means: "when [a log file is put aside](log-format.md), and how many are kept: `size=10M,age=1d,keep=5`",
        option: Some(Opt {
            long: "log-rotate",
            variable: "LPM_LOG_ROTATE",
            value_name: "WHEN",
            takes: Takes::List,
            help: "When a log file is put aside, and how many are kept, e.g. size=10M,age=1d,keep=5 [default: never]",
            ..OUTPUT_OPT
        }),
        ..STACK
    };
    HISTORY = Row {
        key: "history",
        kind: Kind::Text(Form::Kept),
        change: Change::NewStart,
        default: Default::None("`256K`; with the journal at least `1M`"),
        means: "how much of each instance's output is kept for `lpm logs`",
        option: Some(Opt {
            long: "history",
            variable: "LPM_HISTORY",
            value_name: "SIZE",
            takes: Takes::One,
            help: "How much of each instance's output is kept for lpm logs, e.g. 4M [default: 256K]",
            ..OUTPUT_OPT
        }),
        ..STACK
    };
    METRICS = Row {
        key: "metrics",
        kind: Kind::Text(Form::Address),
        change: Change::NewStart,
        default: Default::None("none"),
        means: "a port, or loopback address, where [scrapers are answered](metrics.md)",
        option: Some(Opt {
            long: "metrics",
            variable: "LPM_METRICS",
            value_name: "ADDRESS",
            takes: Takes::One,
            help: "Answer Prometheus on this port or loopback address, e.g. 9464, 127.0.0.2:9464",
            ..OUTPUT_OPT
        }),
        ..STACK
    };
    MEMORY_MAX = Row {
        key: "memory-max",
        kind: Kind::Memory,
        default: Default::None("none"),
        systemd: Some("MemoryMax="),
        means: "most memory: `512M`, `10%`, `infinity`",
        option: Some(Opt {
            long: "mem",
            alias: Some("memory-max"),
            variable: "LPM_MEM",
            value_name: "NAME=SIZE",
            help: "Most memory, e.g. worker=512M, all=10%",
            ..LIMIT_OPT
        }),
        stack_option: Some(Opt {
            long: "stack-mem",
            variable: "LPM_STACK_MEM",
            value_name: "SIZE",
            help: "Most memory of all instances together",
            ..STACK_LIMIT_OPT
        }),
        field: Field::Limits(|limits| size(limits.memory_max)),
        ..LIMIT
    };
    MEMORY_HIGH = Row {
        key: "memory-high",
        kind: Kind::Memory,
        default: Default::None("none"),
        systemd: Some("MemoryHigh="),
        means: "memory above which it is slowed down and reclaimed",
        option: Some(Opt {
            long: "mem-high",
            alias: Some("memory-high"),
            variable: "LPM_MEM_HIGH",
            value_name: "NAME=SIZE",
            help: "Memory above which it is slowed down and reclaimed",
            ..LIMIT_OPT
        }),
        field: Field::Limits(|limits| size(limits.memory_high)),
        ..LIMIT
    };
    MEMORY_SWAP_MAX = Row {
        key: "memory-swap-max",
        kind: Kind::Swap,
        default: Default::None("none"),
        systemd: Some("MemorySwapMax="),
        means: "most swap; `0` is none",
        option: Some(Opt {
            long: "swap",
            alias: Some("memory-swap-max"),
            variable: "LPM_SWAP",
            value_name: "NAME=SIZE",
            help: "Most swap",
            ..LIMIT_OPT
        }),
        field: Field::Limits(|limits| size(limits.memory_swap_max)),
        ..LIMIT
    };
    CPU_QUOTA = Row {
        key: "cpu-quota",
        kind: Kind::Cpu,
        default: Default::None("none"),
        systemd: Some("CPUQuota="),
        means: "most CPU time, in CPUs: `1.5` or `150%`",
        option: Some(Opt {
            long: "cpu",
            alias: Some("cpu-quota"),
            variable: "LPM_CPU",
            value_name: "NAME=CPUS",
            help: "Most CPU time, in CPUs: 1.5 or 150%",
            ..LIMIT_OPT
        }),
        stack_option: Some(Opt {
            long: "stack-cpu",
            variable: "LPM_STACK_CPU",
            value_name: "CPUS",
            help: "Most CPU time of all instances together",
            ..STACK_LIMIT_OPT
        }),
        field: Field::Limits(|limits| limits.cpu_quota.map_or(Value::None, Value::Cpu)),
        ..LIMIT
    };
    CPU_WEIGHT = Row {
        key: "cpu-weight",
        kind: Kind::Weight,
        default: Default::None("the kernel's 100"),
        systemd: Some("CPUWeight="),
        means: "share of the CPU when it is short, 1 to 10000",
        option: Some(Opt {
            long: "cpu-weight",
            variable: "LPM_CPU_WEIGHT",
            value_name: "NAME=N",
            help: "Share of the CPU when it is short, 1 to 10000 (the kernel's default is 100)",
            ..LIMIT_OPT
        }),
        field: Field::Limits(|limits| {
            limits.cpu_weight.map_or(Value::None, |weight| Value::Number(weight.cast_signed()))
        }),
        ..LIMIT
    };
    TASKS_MAX = Row {
        key: "tasks-max",
        kind: Kind::Tasks,
        default: Default::None("none"),
        systemd: Some("TasksMax="),
        means: "most processes and threads: `64`, `10%`",
        option: Some(Opt {
            long: "tasks",
            alias: Some("tasks-max"),
            variable: "LPM_TASKS",
            value_name: "NAME=N",
            help: "Most processes and threads",
            ..LIMIT_OPT
        }),
        stack_option: Some(Opt {
            long: "stack-tasks",
            variable: "LPM_STACK_TASKS",
            value_name: "N",
            help: "Most processes and threads of all instances together",
            ..STACK_LIMIT_OPT
        }),
        field: Field::Limits(|limits| limits.tasks_max.map_or(Value::None, |most| Value::Tasks(most.into()))),
        ..LIMIT
    };
    LIMITS = Row {
        key: "limits",
        kind: Kind::Word { what: "a rule for limits", words: Limits::all },
        default: Default::Value("strict"),
        means: "[what to do with a limit that cannot be enforced](limits.md): `strict` or `best-effort`",
        option: Some(Opt {
            long: "limits",
            variable: "LPM_LIMITS",
            value_name: "HOW",
            group: Group::Limits,
            help: "What to do with a limit that this machine cannot enforce: strict (refuse) or best-effort (warn) [default: strict]",
            ..STACK_OPT
        }),
        field: Field::Stack(|stack| Value::Word(stack.limits.word())),
        ..STACK
    };
    STOP_SIGNAL = Row {
        key: "stop-signal",
        kind: Kind::Signal,
        default: Default::Value("SIGTERM"),
        systemd: Some("KillSignal="),
        means: "asks for the end: a name with or without `SIG`, `RTMIN+3`, or a number",
        option: Some(Opt {
            long: "stop-signal",
            alias: Some("stop-signals"),
            variable: "LPM_STOP_SIGNAL",
            value_name: "SIGNAL",
            help: "The stop signal, e.g. QUIT, web=INT [default: TERM]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Signal(instance.policy.stop_signal)),
        ..ROW
    };
    TIMEOUT_STOP = Row {
        key: "timeout-stop",
        kind: Kind::Span,
        default: Default::Value("5s"),
        systemd: Some("TimeoutStopSec="),
        means: "grace period between the stop signal and SIGKILL: `5`, `500ms`, `1min 30s`, at most a year",
        option: Some(Opt {
            long: "timeout",
            short: Some('t'),
            variable: "LPM_TIMEOUT",
            value_name: "TIME",
            help: "Grace period between the stop signal and SIGKILL, e.g. 5, 500ms, web=30s [default: 5s]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Span(instance.policy.timeout_stop)),
        ..ROW
    };
    KILL_MODE = Row {
        key: "kill-mode",
        kind: Kind::Word { what: "a kill mode", words: KillMode::all },
        default: Default::Value("control-group"),
        systemd: Some("KillMode="),
        means: "which processes get the stop signal: every one, or with `mixed` the main one; what that leaves is killed",
        option: Some(Opt {
            long: "kill-mode",
            variable: "LPM_KILL_MODE",
            value_name: "MODE",
            help: "Which processes get that signal: control-group (every one) or mixed (the main one), e.g. web=mixed [default: control-group]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Word(instance.policy.kill_mode.word())),
        ..ROW
    };
    CAN_DIE = Row {
        key: "can-die",
        default: Default::Value("no"),
        means: "its end does not end the stack",
        option: Some(Opt {
            long: "can-die",
            variable: "LPM_CAN_DIE",
            value_name: "NAMES",
            takes: Takes::Names,
            help: "Processes whose end does not end the stack, e.g. worker,clock or all",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Bool(instance.policy.can_die)),
        ..ROW
    };
    ONESHOT = Row {
        key: "oneshot",
        default: Default::Value("no"),
        systemd: Some("Type=oneshot"),
        means: "meant to end: a clean exit ends nothing, a failure ends the stack; `yes` for `release`",
        option: Some(Opt {
            long: "oneshot",
            variable: "LPM_ONESHOT",
            value_name: "NAMES",
            takes: Takes::Names,
            help: "Processes meant to end: a clean exit ends nothing, a failure ends the stack [default: release]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Bool(instance.policy.oneshot)),
        ..ROW
    };
    RESTART = Row {
        key: "restart",
        kind: Kind::Word { what: "a restart rule", words: RestartWhen::all },
        default: Default::Value("no"),
        systemd: Some("Restart="),
        means: "start it again when it ended unasked: `no`, `on-failure`, `always`. Exit code 0 and SIGTERM, SIGINT, SIGHUP, SIGPIPE are no failure",
        option: Some(Opt {
            long: "restart",
            variable: "LPM_RESTART",
            value_name: "WHEN",
            help: "When to start again what ended: no, on-failure, always, e.g. web=on-failure [default: no]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Word(instance.policy.restart.when.word())),
        ..ROW
    };
    RESTART_SEC = Row {
        key: "restart-sec",
        kind: Kind::Span,
        default: Default::Value("100ms"),
        systemd: Some("RestartSec="),
        means: "delay before the first restart; doubles with each further one",
        option: Some(Opt {
            long: "restart-sec",
            variable: "LPM_RESTART_SEC",
            value_name: "TIME",
            help: "Delay before the first restart, e.g. 0, 500ms, web=2s; doubles with each further one [default: 100ms]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Span(instance.policy.restart.delay)),
        ..ROW
    };
    RESTART_MAX_DELAY_SEC = Row {
        key: "restart-max-delay-sec",
        kind: Kind::Span,
        default: Default::Value("1min"),
        systemd: Some("RestartMaxDelaySec="),
        means: "the longest delay before a restart",
        option: Some(Opt {
            long: "restart-max-delay-sec",
            variable: "LPM_RESTART_MAX_DELAY_SEC",
            value_name: "TIME",
            help: "The longest delay before a restart, e.g. 10s, web=5min [default: 1min]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Span(instance.policy.restart.delay_max)),
        ..ROW
    };
    START_LIMIT_BURST = Row {
        key: "start-limit-burst",
        kind: Kind::Number { what: "a number of starts", least: 1, most: 1_000_000 },
        default: Default::Value("5"),
        systemd: Some("StartLimitBurst="),
        means: "at most this number of starts within `start-limit-interval`; then it stays down",
        option: Some(Opt {
            long: "start-limit-burst",
            variable: "LPM_START_LIMIT_BURST",
            value_name: "N",
            help: "The most starts within --start-limit-interval, e.g. 10, web=3 [default: 5]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Number(i64::from(instance.policy.restart.burst))),
        ..ROW
    };
    START_LIMIT_INTERVAL = Row {
        key: "start-limit-interval",
        kind: Kind::Span,
        default: Default::Value("10s"),
        systemd: Some("StartLimitIntervalSec="),
        means: "the time in which starts are counted; `0` means no limit",
        option: Some(Opt {
            long: "start-limit-interval",
            variable: "LPM_START_LIMIT_INTERVAL",
            value_name: "TIME",
            help: "The time in which starts are counted, e.g. 1min; 0 counts none [default: 10s]",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Span(instance.policy.restart.interval)),
        ..ROW
    };
    QUIET = Row {
        key: "quiet",
        default: Default::Value("no"),
        means: "its lines are not shown; lpm's lines about it are",
        option: Some(Opt {
            long: "quiet",
            short: Some('q'),
            variable: "LPM_QUIET",
            value_name: "NAMES",
            takes: Takes::NamesOr(""),
            help: "Hide the lines of these processes, and the summary; without names only the summary",
            ..OUTPUT_OPT
        }),
        field: Field::Instance(|instance| Value::Bool(instance.quiet)),
        ..ROW
    };
    PRETTY = Row {
        key: "pretty",
        default: Default::Value("no"),
        means: "its JSON and logfmt lines are [shown for people](log-format.md#for-people)",
        option: Some(Opt {
            long: "pretty",
            variable: "LPM_PRETTY",
            value_name: "NAMES",
            takes: Takes::NamesOr("all"),
            help: "Show JSON and logfmt lines of these processes for people, e.g. web,worker; without names of all",
            ..OUTPUT_OPT
        }),
        field: Field::Instance(|instance| Value::Bool(instance.pretty)),
        ..ROW
    };
    CONTROL = Row {
        key: "control",
        change: Change::Restart,
        default: Default::Value("no"),
        means: "it may control its own stack: it gets `LPM_SOCKET`, and no other process does",
        field: Field::Instance(|instance| Value::Bool(instance.control)),
        ..ROW
    };
    PTY = Row {
        key: "pty",
        change: Change::Restart,
        default: Default::Value("no"),
        means: "it has a [terminal of its own](#terminals)",
        option: Some(Opt {
            long: "pty",
            variable: "LPM_PTY",
            value_name: "NAMES",
            takes: Takes::NamesOr("all"),
            help: "Processes with a pseudo-terminal of their own, e.g. web,console; without names all",
            ..OPT
        }),
        field: Field::Instance(|instance| Value::Bool(instance.pty)),
        ..ROW
    };
    NICE = Row {
        key: "nice",
        kind: Kind::Number { what: "a nice value", least: -20, most: 19 },
        change: Change::Restart,
        default: Default::None("that of lpm"),
        systemd: Some("Nice="),
        means: "scheduling priority among processes, -20 (most favourable) to 19; less than lpm's own takes privileges",
        option: Some(Opt {
            long: "nice",
            variable: "LPM_NICE",
            value_name: "N",
            help: "Nice value, -20 to 19, e.g. 10, worker=5; less than lpm's own takes privileges",
            ..OPT
        }),
        field: Field::Instance(|instance| {
            instance.execution.nice.map_or(Value::None, |nice| Value::Number(nice.into()))
        }),
        ..ROW
    };
    NO_NEW_PRIVILEGES = Row {
        key: "no-new-privileges",
        change: Change::Restart,
        default: Default::Value("no"),
        systemd: Some("NoNewPrivileges="),
        means: "no program that it executes gives it more privileges: set-user-ID and file capabilities have no effect",
        field: Field::Instance(|instance| Value::Bool(instance.execution.no_new_privileges)),
        ..ROW
    };
    LOG = Row {
        key: "log",
        kind: Kind::Sinks,
        scope: Scope::Both,
        change: Change::NewStart,
        default: Default::None("`terminal`, in a unit `journald`"),
        means: "[where lines go](log-format.md); of a process type, where its own lines go",
        option: Some(Opt {
            long: "log",
            variable: "LPM_LOG",
            value_name: "WHERE",
            takes: Takes::List,
            help: "Where lines go: terminal, journald, journald-direct, json, json=FILE, file=DIR, file=NAME.log, none [default: terminal]",
            ..OUTPUT_OPT
        }),
        ..ROW
    };
    WORKING_DIRECTORY = Row {
        key: "working-directory",
        kind: Kind::Directory,
        change: Change::Reload,
        default: Default::None("the root"),
        systemd: Some("WorkingDirectory="),
        means: "relative to the root",
        field: Field::Instance(|instance| Value::Directory(instance.working_directory.clone())),
        ..ROW
    };
    ENVIRONMENT = Row {
        key: "environment",
        kind: Kind::Variables,
        change: Change::Reload,
        systemd: Some("Environment="),
        means: "a table of variables",
        ..ROW
    };
}
