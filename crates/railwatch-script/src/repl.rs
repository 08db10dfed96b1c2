//! One expression at a time, on the state of one subject: what a rule would see.

use mlua::{Function, Value};
use railwatch_plugin::score::Case;

use crate::error::{Failure, clean};
use crate::limits::Limits;
use crate::view::{self, Views};
use crate::vm::Vm;

/// Bytes of one expression.
const SOURCE_LEN_MAX: usize = 4_096;
/// Bytes of an answer.
const ANSWER_LEN_MAX: usize = 4_000;

/// Evaluates an expression such as `a:spent("1h") > usd(5)` in a machine of its own. Windows longer than what is kept
/// of the subject are an error, not a smaller number.
pub fn evaluate(source: &str, case: &Case<'_>, longest: std::time::Duration) -> Result<String, String> {
    if source.len() > SOURCE_LEN_MAX {
        return Err(format!("longer than {SOURCE_LEN_MAX} bytes"));
    }
    let limits = Limits::default();
    let tell = |failure: Failure| failure.message;
    let vm = Vm::new("repl", &limits, |_, _| Ok(())).map_err(tell)?;
    vm.window_max(longest);
    let views = Views::new(&vm).map_err(|error| error.to_string())?;
    let as_function = |body: &str| vm.run(&format!("return function(p, a)\n{body}\nend"));
    // An expression is what is meant nearly always; a statement such as `local x = 1 return x` is fine too.
    let function = as_function(&format!("return {source}")).or_else(|_| as_function(source)).map_err(tell)?;
    let Value::Function(function) = function else { return Err("that is no expression".to_owned()) };
    let answer = view::with_case(case, || answer(&vm, &function, &views));
    answer.map(|text| clean(&text, ANSWER_LEN_MAX)).map_err(tell)
}

fn answer(vm: &Vm, function: &Function, views: &Views) -> Result<String, Failure> {
    let value = vm.call::<Value>(function, (&views.payment, &views.agent))?;
    Ok(match &value {
        Value::Nil => "nil".to_owned(),
        Value::Table(table) => {
            let pairs = table.pairs::<Value, Value>().filter_map(Result::ok);
            let pairs: Vec<String> =
                pairs.map(|(key, value)| format!("{} = {}", show(vm, &key), show(vm, &value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => show(vm, other),
    })
}

fn show(vm: &Vm, value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.to_string_lossy()),
        other => vm.show(other),
    }
}
