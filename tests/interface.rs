//! The interface as `dev.lpm.Supervisor.varlink` says it, held against the values that travel.
//!
//! What is read is as much of Varlink's grammar (varlink.org, "Interface Definition") as the file uses; whether
//! all of it is valid is for a client of somebody else's to say (`tests/cli/control_peers.rs`).

use std::collections::{BTreeMap, BTreeSet};

use lpm::control::interface::{
    AttachParameters, Attached, Ceilings, Change, ChangeKind, Changed, DESCRIPTION, DownParameters, Event,
    EventKind, EventsParameters, EventsReply, Failure, INTERFACE, Instance, InstanceState, Instances,
    LifeResult, Line, LineStream, LogsParameters, LogsReply, MetricsParameters, MetricsReply, Named,
    NextStep, Process, Refusal, ReloadParameters, Reloaded, Restarted, ScaleParameters, SetParameters,
    SignalParameters, Stack, StackState, Status, StatusParameters, Tier, Trace, Usage,
};
use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Fields and their types: of the type `Stack`, of the method `Status(` and of its reply `Status)`, of the
/// error `Invalid!`.
type Definitions = BTreeMap<String, BTreeMap<String, String>>;

fn definitions() -> Definitions {
    let lines = DESCRIPTION.lines().map(|line| line.split('#').next().unwrap_or(line));
    let text = lines.collect::<Vec<_>>().join(" ");
    let begin = format!("interface {INTERFACE} ");
    let mut rest = text.trim().strip_prefix(&begin).expect("it begins with its name").trim_start();
    let mut found = Definitions::new();
    while !rest.is_empty() {
        let (kind, after) = rest.split_once(' ').expect("what it is");
        let (name, after) = after.split_once('(').expect("its fields");
        let (inside, mut after) = parenthesis(after);
        let name = name.trim();
        let key = match kind {
            "type" => name.to_owned(),
            "method" => {
                let reply = after.trim_start().strip_prefix("->").expect("a reply").trim_start();
                let (inside, rest) = parenthesis(reply.strip_prefix('(').expect("its fields"));
                found.insert(format!("{name})"), fields(inside));
                after = rest;
                format!("{name}(")
            }
            "error" => format!("{name}!"),
            other => panic!("{other:?} is nothing that an interface has"),
        };
        assert_eq!(found.insert(key, fields(inside)), None, "{name} twice");
        rest = after.trim_start();
    }
    found
}

/// What is before the parenthesis that closes this one, and what comes after it.
fn parenthesis(text: &str) -> (&str, &str) {
    let end = at_depth(text, -1, ')').expect("it is closed");
    (&text[..end], &text[end + 1..])
}

/// Where `wanted` stands, so many parentheses deep.
fn at_depth(text: &str, depth: i32, wanted: char) -> Option<usize> {
    let mut now = 0;
    text.find(|c| {
        now += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        now == depth && c == wanted
    })
}

fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once(':').unwrap_or_else(|| panic!("{rest:?} has no type"));
        let (kind, after) =
            at_depth(after, 0, ',').map_or((after, ""), |at| (&after[..at], &after[at + 1..]));
        let twice = fields.insert(name.trim().to_owned(), kind.split_whitespace().collect());
        assert_eq!(twice, None, "{name} twice");
        rest = after.trim();
    }
    fields
}

/// Something of this type; what is optional is there or is not.
fn value(kind: &str, with_optional: bool, all: &Definitions) -> Value {
    let of = |kind| value(kind, with_optional, all);
    match kind {
        "int" => json!(7),
        "float" => json!(0.5),
        "bool" => json!(true),
        "string" => json!("x"),
        _ => {
            if let Some(kind) = kind.strip_prefix('?') {
                if with_optional { of(kind) } else { Value::Null }
            } else if let Some(kind) = kind.strip_prefix("[]") {
                json!([of(kind)])
            } else if let Some(kind) = kind.strip_prefix("[string]") {
                json!({ "key": of(kind) })
            } else if let Some(inside) = kind.strip_prefix('(') {
                object(&fields(&inside[..inside.len() - 1]), with_optional, all)
            } else {
                let fields = all.get(kind).unwrap_or_else(|| panic!("{kind}: no such type"));
                object(fields, with_optional, all)
            }
        }
    }
}

fn object(fields: &BTreeMap<String, String>, with_optional: bool, all: &Definitions) -> Value {
    fields.iter().map(|(name, kind)| (name.clone(), value(kind, with_optional, all))).collect()
}

/// Tells which fields a struct asks for, and gives it none.
struct Asked<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("it is no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        Err(serde::de::Error::custom("these are all"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn without_nulls(mut value: Value) -> Value {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|_, value| !value.is_null());
                object.values_mut().for_each(clean);
            }
            Value::Array(values) => values.iter_mut().for_each(clean),
            _ => {}
        }
    }
    clean(&mut value);
    value
}

/// The definition and the struct have the same fields, of the same types.
#[track_caller]
fn same<T: Serialize + DeserializeOwned>(name: &str, all: &Definitions) {
    let defined = &all[name];
    let mut asked = Vec::new();
    T::deserialize(Asked(&mut asked)).err().expect("it gets nothing");
    let asked: BTreeSet<&str> = asked.into_iter().collect();
    assert_eq!(asked, defined.keys().map(String::as_str).collect(), "{name}");
    for with_optional in [true, false] {
        let told = object(defined, with_optional, all);
        let read: T = serde_json::from_value(told.clone()).unwrap_or_else(|e| panic!("{name}: {e}: {told}"));
        let again = serde_json::to_value(&read).expect("it is plain data");
        match with_optional {
            true => assert_eq!(again, told, "{name}"),
            false => assert_eq!(without_nulls(again), without_nulls(told), "{name}"),
        }
    }
}

#[test]
fn values_are_what_the_interface_says() {
    let all = definitions();
    let mut seen = BTreeSet::new();
    macro_rules! held {
        ($($name:literal: $rust:ty,)*) => { $( same::<$rust>($name, &all); seen.insert($name.to_owned()); )* };
    }
    held! {
        "Stack": Stack, "Ceilings": Ceilings, "Usage": Usage, "Instance": Instance, "Process": Process,
        "Change": Change, "Line": Line, "Event": Event, "Failure": Failure, "Trace": Trace,
        "Status(": StatusParameters, "Status)": Status,
        "Start(": Named, "Start)": Instances,
        "Stop(": Named, "Stop)": Instances,
        "Restart(": Named, "Restart)": Restarted,
        "Kill(": Named, "Kill)": Instances,
        "Freeze(": Named, "Freeze)": Instances,
        "Thaw(": Named, "Thaw)": Instances,
        "Signal(": SignalParameters, "Signal)": Instances,
        "Scale(": ScaleParameters, "Scale)": Changed,
        "Set(": SetParameters, "Set)": Changed,
        "Reload(": ReloadParameters, "Reload)": Reloaded,
        "Metrics(": MetricsParameters, "Metrics)": MetricsReply,
        "Logs(": LogsParameters, "Logs)": LogsReply,
        "Events(": EventsParameters, "Events)": EventsReply,
        "Attach(": AttachParameters, "Attach)": Attached,
        "Down(": DownParameters,
    }
    // It says nothing.
    assert!(all["Down)"].is_empty());
    seen.insert("Down)".to_owned());
    let defined: BTreeSet<String> = all.keys().filter(|name| !name.ends_with('!')).cloned().collect();
    assert_eq!(seen, defined);
}

#[test]
fn refusals_are_what_the_interface_says() {
    let all = definitions();
    let errors = all.iter().filter_map(|(name, fields)| Some((name.strip_suffix('!')?, fields)));
    let mut defined = BTreeSet::new();
    for (name, fields) in errors {
        let error = format!("{INTERFACE}.{name}");
        for with_optional in [true, false] {
            let told = json!({ "error": error, "parameters": object(fields, with_optional, &all) });
            let read = Refusal::deserialize(&told).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(serde_json::to_value(read).expect("it is plain data"), told, "{name}");
        }
        defined.insert(error);
    }
    // What it does not know, serde answers with what it knows.
    let known = Refusal::deserialize(json!({ "error": "", "parameters": {} })).expect_err("no such error");
    let known: BTreeSet<String> =
        known.to_string().split('`').filter(|word| word.starts_with(INTERFACE)).map(str::to_owned).collect();
    assert_eq!(known, defined);
}

/// Takes out what stands in parentheses.
fn without_remarks(text: &str) -> String {
    let mut depth = 0;
    let kept = |c: &char| {
        depth += i32::from(*c == '(');
        let outside = depth == 0;
        depth -= i32::from(*c == ')');
        outside
    };
    text.chars().filter(kept).collect()
}

/// The words that the comment above a type lists for one of its fields: `field (a remark): a word, another (of it).`
fn listed(of: &str, field: &str) -> Vec<String> {
    let (before, _) = DESCRIPTION.split_once(&format!("\ntype {of} (")).expect("a type");
    let comment = before.lines().rev().take_while(|line| line.starts_with('#')).collect::<Vec<_>>();
    let lines = comment.into_iter().rev().map(|line| line.trim_start_matches(['#', ' ']));
    let text = without_remarks(&lines.collect::<Vec<_>>().join(" "));
    let sentence = text.split(". ").find_map(|sentence| {
        let (name, words) = sentence.split_once(':')?;
        (name.trim() == field).then(|| words.to_owned())
    });
    let words = sentence.unwrap_or_else(|| panic!("{of}: nothing is listed for {field}: {text}"));
    words.trim_end_matches('.').split(',').map(|word| word.trim().to_owned()).collect()
}

#[test]
fn the_words_of_each_field_are_listed() {
    macro_rules! held {
        ($($of:literal $field:literal: $words:ty,)*) => { $(
            let words: Vec<String> = <$words>::ALL.iter().map(ToString::to_string).collect();
            assert_eq!(listed($of, $field), words, "{} of {}", $field, $of);
        )* };
    }
    held! {
        "Stack" "state": StackState,
        "Stack" "tier": Tier,
        "Instance" "state": InstanceState,
        "Instance" "result": LifeResult,
        "Failure" "next": NextStep,
        "Change" "kind": ChangeKind,
        "Line" "stream": LineStream,
        "Event" "event": EventKind,
    }
}
