//! Varlink on the wire: a JSON object, then a NUL byte. Pure: bytes in, values out, and back.
//!
//! A message is cut at its NUL and never kept longer than [`LONGEST`]; whoever sends more is not spoken to any
//! further, because nothing that follows could be told apart (varlink.org, "Message Format").

use std::cell::RefCell;
use std::fmt;

use serde::de::value::MapDeserializer;
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::frames::{Frame, NoFrame};

/// The longest call that is read, bytes. Names of ten thousand instances fit.
pub const LONGEST: usize = 256 * 1024;

/// A call as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// `dev.lpm.Supervisor.Status`.
    pub method: String,
    /// What it is given.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
    /// The caller takes any number of replies.
    #[serde(default)]
    pub more: Option<bool>,
    /// The caller wants no reply.
    #[serde(default)]
    pub oneway: Option<bool>,
    /// After the reply the connection carries something else.
    #[serde(default)]
    pub upgrade: Option<bool>,
}

impl Call {
    /// Interface and method: what stands before and after the last dot.
    pub fn parts(&self) -> (&str, &str) {
        self.method.rsplit_once('.').unwrap_or(("", &self.method))
    }

    /// The parameters as a value of their own type.
    ///
    /// # Errors
    /// Which parameter is wrong, as well as it can be told.
    pub fn parameters<'de, T: Deserialize<'de>>(&self) -> Result<T, Failure> {
        let object = self.parameters.clone().unwrap_or_default();
        // Whose value is of the wrong type is whose was read last.
        let last = RefCell::new(String::new());
        let read = |(name, value): (String, Value)| {
            last.borrow_mut().clone_from(&name);
            (name, Given(value))
        };
        T::deserialize(MapDeserializer::new(object.into_iter().map(read))).map_err(|wrong| match wrong {
            Wrong::Missing(name) => Failure::invalid_parameter(name),
            Wrong::LastRead => Failure::invalid_parameter(&last.borrow()),
        })
    }
}

/// Which parameter of a call is wrong.
#[derive(Debug)]
enum Wrong {
    /// One that was not given.
    Missing(&'static str),
    /// The one that was read last: it is unknown, or its value is of another type.
    LastRead,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Missing(name) => write!(f, "{name} is missing"),
            Wrong::LastRead => f.write_str("the parameter that was read last is wrong"),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(_: T) -> Wrong {
        Wrong::LastRead
    }

    fn missing_field(name: &'static str) -> Wrong {
        Wrong::Missing(name)
    }
}

/// The value of a parameter, read with [`Wrong`] as its error.
struct Given(Value);

impl IntoDeserializer<'_, Wrong> for Given {
    type Deserializer = Given;

    fn into_deserializer(self) -> Given {
        self
    }
}

impl<'de> Deserializer<'de> for Given {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.0.deserialize_any(visitor).map_err(|_| Wrong::LastRead)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.0.deserialize_option(visitor).map_err(|_| Wrong::LastRead)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.0.deserialize_enum(name, variants, visitor).map_err(|_| Wrong::LastRead)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.0.deserialize_newtype_struct(name, visitor).map_err(|_| Wrong::LastRead)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// An error reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// `org.varlink.service.MethodNotFound`, `dev.lpm.Supervisor.NoSuchInstance`.
    pub error: String,
    /// What belongs to it.
    #[serde(default)]
    pub parameters: Value,
}

impl Failure {
    fn of_the_service(name: &str, parameters: Value) -> Failure {
        Failure { error: format!("org.varlink.service.{name}"), parameters }
    }

    /// There is no such interface.
    pub fn interface_not_found(interface: &str) -> Failure {
        Failure::of_the_service("InterfaceNotFound", json!({ "interface": interface }))
    }

    /// There is no such method.
    pub fn method_not_found(method: &str) -> Failure {
        Failure::of_the_service("MethodNotFound", json!({ "method": method }))
    }

    /// A parameter is missing, unknown, or of the wrong type.
    pub fn invalid_parameter(parameter: &str) -> Failure {
        Failure::of_the_service("InvalidParameter", json!({ "parameter": parameter }))
    }

    /// The method has many replies, and the caller takes one.
    pub fn expected_more() -> Failure {
        Failure::of_the_service("ExpectedMore", json!({}))
    }

    /// The caller may not.
    pub fn permission_denied() -> Failure {
        Failure::of_the_service("PermissionDenied", json!({}))
    }
}

/// A reply that is no error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What came of it.
    #[serde(default)]
    pub parameters: Value,
    /// More replies follow.
    #[serde(default)]
    pub continues: bool,
}

/// Writes `message` and its NUL behind what is in `out`.
pub fn put(out: &mut Vec<u8>, message: &impl Serialize) {
    serde_json::to_writer(&mut *out, message).expect("plain data goes into a Vec");
    out.push(0);
}

/// Writes a reply that is no error.
pub fn put_reply(out: &mut Vec<u8>, parameters: &impl Serialize, continues: bool) {
    #[derive(Serialize)]
    struct Out<'a, T> {
        parameters: &'a T,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        continues: bool,
    }
    put(out, &Out { parameters, continues });
}

/// Bytes that came, cut into messages.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// What is before it was taken out. It is removed before the next read and not for each message: thousands may
    /// come at once, and each would move all that is behind it.
    start: usize,
    /// Without a NUL up to here.
    searched: usize,
}

/// A message became longer than [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Inbox {
    /// Where bytes go that came.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        &mut self.bytes
    }

    /// Whether there is room for more before a message has to be taken out.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.start <= LONGEST
    }

    /// The next whole message, without its NUL.
    ///
    /// # Errors
    /// There is none, and none that is allowed can come any more.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        match memchr::memchr(0, &self.bytes[self.searched..]) {
            Some(at) => {
                let end = self.searched + at;
                let message = self.start..end;
                (self.start, self.searched) = (end + 1, end + 1);
                if message.len() > LONGEST { Err(TooLong) } else { Ok(Some(self.bytes[message].to_vec())) }
            }
            None if !self.has_room() => Err(TooLong),
            None => {
                self.searched = self.bytes.len();
                self.forget_if_empty();
                Ok(None)
            }
        }
    }

    /// The next whole frame, once the connection carries frames.
    ///
    /// # Errors
    /// It is no frame, and nothing that follows can be told apart.
    pub fn take_frame(&mut self) -> Result<Option<Frame>, NoFrame> {
        let Some((frame, length)) = Frame::first(&self.bytes[self.start..])? else {
            self.forget_if_empty();
            return Ok(None);
        };
        self.start += length;
        self.searched = self.start;
        Ok(Some(frame))
    }

    /// An idle connection keeps nothing.
    fn forget_if_empty(&mut self) {
        if self.bytes.len() == self.start {
            *self = Inbox::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(inbox: &mut Inbox) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut messages = Vec::new();
        while let Some(message) = inbox.take()? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn a_message_ends_at_its_nul_however_it_comes() {
        let mut inbox = Inbox::default();
        inbox.bytes().extend_from_slice(b"{\"a\"");
        assert_eq!(all(&mut inbox), Ok(vec![]));
        inbox.bytes().extend_from_slice(b":1}\0{}\0{");
        assert_eq!(all(&mut inbox), Ok(vec![b"{\"a\":1}".to_vec(), b"{}".to_vec()]));
        assert_eq!(inbox.bytes(), b"{");
    }

    #[test]
    fn half_a_message_of_two_mebibytes_is_refused_before_it_is_all_there() {
        let mut inbox = Inbox::default();
        let mut kept = 0;
        for _ in 0..512 {
            inbox.bytes().extend_from_slice(&[b'x'; 4096]);
            kept = kept.max(inbox.bytes.len());
            if inbox.take() == Err(TooLong) {
                assert!(kept <= LONGEST + 4096);
                return;
            }
        }
        panic!("it was taken in");
    }

    /// As many as one connection may have sent before they are read. Where each moved all that is behind it, these
    /// copied 30 GiB.
    #[test]
    fn many_messages_or_frames_at_once_are_each_moved_once() {
        let mut inbox = Inbox::default();
        for _ in 0..2 {
            inbox.bytes().extend_from_slice(&[0; LONGEST]);
            let mut count = 0;
            while let Ok(Some(message)) = inbox.take() {
                assert!(message.is_empty());
                count += 1;
            }
            assert_eq!(count, LONGEST);
        }
        let frame = [b's', 0, 0, 0, 4, 0, 1, 0, 1];
        inbox.bytes().extend(frame.iter().cycle().take(LONGEST));
        let mut count = 0;
        while let Ok(Some(frame)) = inbox.take_frame() {
            assert_eq!(frame, Frame::Size(1, 1));
            count += 1;
        }
        assert_eq!(count, LONGEST / frame.len());
        assert_eq!(inbox.bytes().len(), LONGEST % frame.len());
    }

    #[test]
    fn a_message_has_a_largest_length() {
        let mut inbox = Inbox::default();
        inbox.bytes().extend(vec![b'x'; LONGEST]);
        assert!(inbox.has_room());
        assert_eq!(inbox.take(), Ok(None));
        inbox.bytes().push(0);
        assert_eq!(inbox.take().map(|message| message.map(|text| text.len())), Ok(Some(LONGEST)));
        inbox.bytes().extend(vec![b'x'; LONGEST + 1]);
        assert!(!inbox.has_room());
        inbox.bytes().push(0);
        assert_eq!(inbox.take(), Err(TooLong));
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wanted {
            #[expect(dead_code, reason = "only its type matters")]
            name: String,
            #[expect(dead_code, reason = "only its type matters")]
            counts: Option<std::collections::BTreeMap<String, u32>>,
        }
        let told = |text: &str| {
            let call: Call = serde_json::from_str(text).unwrap();
            call.parameters::<Wanted>().unwrap_err().parameters["parameter"].as_str().unwrap().to_owned()
        };
        assert_eq!(told(r#"{"method":"a.b.C"}"#), "name");
        assert_eq!(told(r#"{"method":"a.b.C","parameters":{"counts":null}}"#), "name");
        assert_eq!(told(r#"{"method":"a.b.C","parameters":{"name":"x","size":1}}"#), "size");
        assert_eq!(told(r#"{"method":"a.b.C","parameters":{"name":5}}"#), "name");
        assert_eq!(told(r#"{"method":"a.b.C","parameters":{"counts":{"web":"x"},"name":"x"}}"#), "counts");
    }

    #[test]
    fn a_call_is_taken_apart_at_its_last_dot() {
        let call: Call = serde_json::from_str(r#"{"method":"dev.lpm.Supervisor.Status","other":1}"#).unwrap();
        assert_eq!(call.parts(), ("dev.lpm.Supervisor", "Status"));
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_splitter(
            text in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..400), size in 1usize..30,
        ) {
            let mut inbox = Inbox::default();
            let mut messages = Vec::new();
            for chunk in text.chunks(size) {
                inbox.bytes().extend_from_slice(chunk);
                messages.extend(all(&mut inbox).unwrap());
            }
            let mut expected: Vec<Vec<u8>> = text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            let rest = expected.pop().unwrap_or_default();
            prop_assert_eq!(messages, expected);
            prop_assert_eq!(inbox.bytes(), &rest);
        }
    }
}
