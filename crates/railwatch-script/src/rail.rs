//! Rails: `rail { name, decode }` as a [`Decoder`].
//!
//! A decoder is never quarantined: whoever can send it a message could otherwise blind the rail. A message that it
//! fails on is a reject, which is counted, sampled and can be decoded again.

use std::sync::{Arc, Mutex, PoisonError};

use mlua::{Function, Lua, MultiValue, Table, Value};
use railwatch_model::SmolStr;
use railwatch_plugin::decode::{Decoded, Decoder, Message, Reject};

use crate::error::{Failure, ScriptError, clean, message_of};
use crate::json;
use crate::payment;
use crate::spec::Spec;
use crate::status::{Counters, ScriptKind};
use crate::value;
use crate::vm::Vm;

pub(crate) const KEYS: &[&str] = &["about", "decode", "name", "tests"];

/// Bytes of a message that a script decodes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Headers whose values are credentials or proofs and stay out of scripts.
const HIDDEN_HEADERS: &[&str] = &["auth", "cookie", "key", "secret", "signature", "token"];

/// A compiled decoder. Its machine is used by one message at a time.
#[derive(Debug)]
pub struct LuaDecoder {
    pub(crate) name: SmolStr,
    pub(crate) counters: Arc<Counters>,
    vm: Arc<Vm>,
    decode: Function,
    busy: Mutex<()>,
}

impl LuaDecoder {
    pub(crate) fn read(vm: &Arc<Vm>, source: &str, table: Table) -> Result<Self, ScriptError> {
        let spec = Spec { lua: &vm.lua, table, file: &vm.file, source, what: "rail" };
        spec.known(KEYS)?;
        let name: String = spec.require("name", "a text such as \"acme\"")?;
        let decode = spec.require("decode", "a function(msg)")?;
        let name = SmolStr::from(name);
        let counters = Counters::new(&spec, name.clone(), ScriptKind::Rail, u32::MAX)?;
        Ok(Self { name, counters, vm: Arc::clone(vm), decode, busy: Mutex::new(()) })
    }

    fn run(&self, message: &Message<'_>, decoded: &mut Decoded) -> Result<(), Failure> {
        let _one_at_a_time = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if message.body.len() > BODY_BYTES_MAX {
            let detail = format!("{} bytes; a script decodes up to {BODY_BYTES_MAX}", message.body.len());
            decoded.reject("too_large", detail, message.body, message.received_at);
            return Ok(());
        }
        let input = match table_of(&self.vm.lua, message) {
            Ok(input) => input,
            Err(error) => return Err(Failure::from_lua(&error, &self.vm.file)),
        };
        let returned = self.vm.call::<MultiValue>(&self.decode, input)?;
        self.take(returned, message, decoded)
    }

    /// One payment, a list of payments, or nothing and a reason.
    fn take(
        &self,
        returned: MultiValue,
        message: &Message<'_>,
        decoded: &mut Decoded,
    ) -> Result<(), Failure> {
        let mut returned = returned.into_iter();
        let first = returned.next().unwrap_or(Value::Nil);
        match first {
            Value::Nil | Value::Boolean(false) => {
                let reason = match returned.next() {
                    Some(Value::String(reason)) => clean(&reason.to_string_lossy(), 200),
                    _ => "not a payment".to_owned(),
                };
                decoded.filter(reason);
                Ok(())
            }
            Value::Table(table) if is_payment(&table) => {
                self.payment(&table, message, decoded);
                Ok(())
            }
            Value::Table(list) => self.list(&list, message, decoded),
            other => Err(Failure::plain(format!(
                "decode returned a {}; return a payment, a list, or nil and a reason",
                other.type_name()
            ))),
        }
    }

    fn list(&self, list: &Table, message: &Message<'_>, decoded: &mut Decoded) -> Result<(), Failure> {
        let payments_max = self.vm.shared.limits.payments_per_message_max;
        if list.raw_len() > payments_max {
            return Err(Failure::plain(format!("decode returned more than {payments_max} payments")));
        }
        if list.raw_len() == 0 {
            decoded.filter("no payment in it");
        }
        for item in list.sequence_values::<Value>() {
            match item {
                Ok(Value::Table(table)) => self.payment(&table, message, decoded),
                _ => decoded.reject(
                    "bad_payment",
                    "decode returned a list with something else than payments",
                    message.body,
                    message.received_at,
                ),
            }
        }
        Ok(())
    }

    fn payment(&self, table: &Table, message: &Message<'_>, decoded: &mut Decoded) {
        match payment::read(&self.vm, &self.name, table) {
            Ok(mut payment) => {
                payment.observed_at = message.received_at;
                decoded.payments.push(payment);
            }
            Err(wrong) => {
                decoded.rejects.push(Reject::new(wrong.code, wrong.detail, message.body, message.received_at))
            }
        }
    }
}

fn is_payment(table: &Table) -> bool {
    table.raw_len() == 0 && !table.is_empty()
}

/// The message as the script sees it: `json`, or `text` if the body is not JSON; `headers`; `received_at`.
fn table_of(lua: &Lua, message: &Message<'_>) -> mlua::Result<Table> {
    let input = lua.create_table()?;
    match json::read(lua, message.body) {
        Ok(json) => input.raw_set("json", json)?,
        Err(error) => {
            // Text that is not JSON may still be a rail's format; its secrets cannot be told apart.
            input.raw_set("text", lua.create_string(message.body)?)?;
            input.raw_set("json_error", clean(&message_of(&error), 200))?;
        }
    }
    let headers = lua.create_table()?;
    for (name, header) in message.headers.into_iter().flatten().take(64) {
        let hidden = HIDDEN_HEADERS.iter().any(|part| name.as_str().contains(part));
        if let (false, Ok(text)) = (hidden, header.to_str()) {
            headers.raw_set(name.as_str(), text)?;
        }
    }
    input.raw_set("headers", headers)?;
    input.raw_set("received_at", value::time(message.received_at))?;
    Ok(input)
}

impl LuaDecoder {
    /// Decodes without counting: what the script fails on is a reject, and is returned too.
    pub(crate) fn attempt(&self, message: &Message<'_>, decoded: &mut Decoded) -> Result<(), Failure> {
        self.run(message, decoded).inspect_err(|failure| {
            let line = failure.line.map_or_else(String::new, |line| format!(":{line}"));
            let detail = format!("{}{line}: {}", self.vm.file, failure.message);
            decoded.reject("script_error", detail, message.body, message.received_at);
        })
    }
}

impl Decoder for LuaDecoder {
    fn decode(&self, message: &Message<'_>, decoded: &mut Decoded) {
        match self.attempt(message, decoded) {
            Ok(()) => self.counters.good(),
            Err(failure) => self.counters.failed(failure, message.received_at, None, None),
        }
    }
}
