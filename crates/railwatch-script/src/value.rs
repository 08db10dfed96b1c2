//! Money and time as script values: 64 bits inside a light userdata, so that neither costs an allocation and neither
//! is ever a number.
//!
//! Two tag bits tell what the other 62 hold: nano-dollars, microseconds, or the place of an amount of another asset in
//! the machine's [`Arena`]. Equal amounts get equal bits, which is what makes `==` work on them.
//!
//! Invariant: an amount of the asset `USD` is always held as dollars, whatever its scale, so that `p.amount` and
//! `usd(5)` can be compared; every other asset meets only itself.

use std::cmp::Ordering;
use std::ffi::c_void;
use std::sync::Arc;

use mlua::{Error, LightUserData, Lua, LuaString, Result, Table, Value};
use railwatch_model::{Asset, Money, Timestamp, Usd};

use crate::arena::Arena;
use crate::time;
use crate::vm::Shared;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("script values need 64-bit pointers");

const TAG_BITS: u32 = 2;
const TAG_MASK: u64 = 0b11;
const USD: u64 = 0b00;
const TIME: u64 = 0b01;
const AMOUNT: u64 = 0b10;

/// A script value that is not one of Lua's own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Usd(Usd),
    Time(Timestamp),
    Amount(Money),
}

impl Scalar {
    /// Reads a value; `None` if it is one of Lua's own.
    pub(crate) fn read(value: &Value, arena: &Arena) -> Result<Option<Self>> {
        let Value::LightUserData(LightUserData(pointer)) = value else { return Ok(None) };
        let bits = pointer.addr() as u64;
        let payload = bits.cast_signed() >> TAG_BITS;
        match bits & TAG_MASK {
            USD => Ok(Some(Self::Usd(Usd::from_nanos(payload)))),
            TIME => Ok(Some(Self::Time(Timestamp::from_micros(payload)))),
            _ => arena.get(bits >> TAG_BITS).map(|money| Some(Self::Amount(money))),
        }
    }

    /// The name of what it is, for errors: `USD`, `EUR`, `a time`.
    fn name(&self) -> &str {
        match self {
            Self::Usd(_) => "USD",
            Self::Time(_) => "a time",
            Self::Amount(money) => money.asset().code(),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Usd(usd) => usd.to_string(),
            Self::Time(at) => at.to_string(),
            Self::Amount(money) => money.to_string(),
        }
    }
}

fn pack(tag: u64, payload: i64) -> Option<Value> {
    let shifted = payload.checked_mul(1 << TAG_BITS)?;
    let bits = shifted.cast_unsigned() | tag;
    let address = usize::try_from(bits).ok()?;
    Some(Value::LightUserData(LightUserData(std::ptr::without_provenance_mut::<c_void>(address))))
}

/// Dollars as a script value.
pub(crate) fn usd(usd: Usd, arena: &Arena) -> Result<Value> {
    match pack(USD, usd.nanos()) {
        Some(value) => Ok(value),
        // Above 2.3 billion dollars.
        None => amount_in_arena(Money::new(i128::from(usd.nanos()), nano_dollar()), arena),
    }
}

/// A time as a script value.
pub(crate) fn time(at: Timestamp) -> Value {
    pack(TIME, at.micros()).unwrap_or(Value::Nil)
}

/// An amount as a script value.
pub(crate) fn amount(money: Money, arena: &Arena) -> Result<Value> {
    if money.asset().code() == "USD"
        && let Some(dollars) = as_usd(&money)
    {
        return usd(dollars, arena);
    }
    amount_in_arena(money, arena)
}

fn amount_in_arena(money: Money, arena: &Arena) -> Result<Value> {
    let handle = arena.intern(money)?;
    pack(AMOUNT, handle.cast_signed()).ok_or_else(|| Error::runtime("too many amounts"))
}

fn nano_dollar() -> Asset {
    Asset::new("USD", 9).expect("a code and nine decimals make an asset")
}

/// The nano-dollars of an amount in the asset `USD`, if they are whole and fit.
fn as_usd(money: &Money) -> Option<Usd> {
    let scale = u32::from(money.asset().scale());
    let nanos = match 9_u32.checked_sub(scale) {
        Some(up) => money.units().checked_mul(10_i128.checked_pow(up)?)?,
        None => {
            let power = 10_i128.checked_pow(scale - 9)?;
            (money.units() % power == 0).then(|| money.units() / power)?
        }
    };
    i64::try_from(nanos).ok().map(Usd::from_nanos)
}

/// The amount behind a script value, as a rail's decoder hands it over: dollars in cents where cents hold them,
/// in nano-dollars where they do not (a language model's token costs).
pub(crate) fn to_money(scalar: &Scalar) -> Option<Money> {
    match scalar {
        Scalar::Amount(money) => Some(money.clone()),
        Scalar::Usd(usd) => {
            let nanos = i128::from(usd.nanos());
            let cents = nanos % 10_000_000 == 0;
            Some(if cents {
                Money::new(nanos / 10_000_000, Asset::usd())
            } else {
                Money::new(nanos, nano_dollar())
            })
        }
        Scalar::Time(_) => None,
    }
}

/// The asset that a script names, with `sat` and `msat` as ways to write bitcoin; the second value is the factor from
/// the named unit to the asset's smallest one.
fn asset(code: &str, scale: Option<u8>) -> Result<(Asset, i128)> {
    match (code, scale) {
        (_, Some(scale)) => Asset::new(code, scale).map(|asset| (asset, 1)).ok_or_else(|| {
            Error::runtime(format!("{code:?} with {scale} decimals is not an asset; at most 36"))
        }),
        ("sat", None) => Ok((Asset::btc(), 1_000)),
        ("msat", None) => Ok((Asset::btc(), 1)),
        (_, None) => {
            Asset::known(code).map(|asset| (asset, 1)).map_err(|error| Error::runtime(error.to_string()))
        }
    }
}

/// The exact decimal text of a number or a text.
fn decimal_text(value: &Value) -> Result<String> {
    match value {
        Value::Integer(number) => Ok(number.to_string()),
        Value::Number(number) if number.is_finite() => Ok(number.to_string()),
        Value::String(text) => Ok(text.to_string_lossy()),
        other => {
            Err(Error::runtime(format!("{} is not an amount; give a number or a text", other.type_name())))
        }
    }
}

/// `money(units, code, decimals?)`: whole smallest units.
fn money_of_units(units: &Value, code: &str, scale: Option<u8>) -> Result<Money> {
    let text = decimal_text(units)?;
    let (asset, factor) = asset(code, scale)?;
    let number: i128 = text.parse().map_err(|_| {
        Error::runtime(format!(
            "{text} is not a whole number of the smallest unit of {code}; use decimal({text:?}, {code:?})"
        ))
    })?;
    let units =
        number.checked_mul(factor).ok_or_else(|| Error::runtime("the amount does not fit into 128 bits"))?;
    Ok(Money::new(units, asset))
}

/// `decimal(text, code, decimals?)`: units of speech.
fn money_of_decimal(value: &Value, code: &str, scale: Option<u8>) -> Result<Money> {
    let text = decimal_text(value)?;
    let (asset, factor) = asset(code, scale)?;
    // `decimal("2.5", "sat")` is 2,500 millisatoshi.
    let asset = match (code, factor) {
        ("sat", _) => return rescaled(&text, 3, asset),
        ("msat", _) => return rescaled(&text, 0, asset),
        ("USD", _) => nano_dollar_if_needed(&text, asset),
        _ => asset,
    };
    Money::parse(&text, asset).map_err(|error| Error::runtime(error.to_string()))
}

fn rescaled(text: &str, scale: u8, asset: Asset) -> Result<Money> {
    let unit = Asset::new("BTC", scale).ok_or_else(|| Error::runtime("no such unit"))?;
    let money = Money::parse(text, unit).map_err(|error| Error::runtime(error.to_string()))?;
    Ok(Money::new(money.units(), asset))
}

fn nano_dollar_if_needed(text: &str, cents: Asset) -> Asset {
    if Money::parse(text, cents.clone()).is_ok() { cents } else { nano_dollar() }
}

/// A duration such as `"10m"`.
pub(crate) fn span(text: &str) -> Result<std::time::Duration> {
    match text.parse::<railwatch_plugin::config::Span>() {
        Ok(span) => Ok(span.0),
        Err(message) => Err(Error::runtime(message)),
    }
}

#[derive(Debug, Clone, Copy)]
enum Operator {
    Add,
    Subtract,
}

/// Puts `money`, `decimal`, `usd`, `time` and the operators into the environment.
pub(crate) fn install(lua: &Lua, env: &Table, shared: &Arc<Shared>) -> Result<()> {
    let cx = Arc::clone(shared);
    env.raw_set("usd", lua.create_function(move |_, value: Value| dollars(&value, &cx.arena))?)?;
    let cx = Arc::clone(shared);
    let money = move |_: &Lua, (units, code, scale): (Value, LuaString, Option<u8>)| {
        amount(money_of_units(&units, &code.to_str()?, scale)?, &cx.arena)
    };
    env.raw_set("money", lua.create_function(money)?)?;
    let cx = Arc::clone(shared);
    let decimal = move |_: &Lua, (value, code, scale): (Value, LuaString, Option<u8>)| {
        amount(money_of_decimal(&value, &code.to_str()?, scale)?, &cx.arena)
    };
    env.raw_set("decimal", lua.create_function(decimal)?)?;
    env.raw_set("time", lua.create_function(|_, value: Value| Ok(time(time::read(&value)?)))?)?;
    env.raw_set(
        "duration",
        lua.create_function(|_, text: LuaString| Ok(span(&text.to_str()?)?.as_secs_f64()))?,
    )?;
    let metatable = lua.create_table()?;
    operators(lua, &metatable, shared)?;
    let methods = lua.create_table()?;
    time::install(lua, &methods, shared)?;
    money_methods(lua, &methods, shared)?;
    methods.set_readonly(true);
    metatable.raw_set("__index", methods)?;
    metatable.raw_set("__metatable", false)?;
    metatable.set_readonly(true);
    lua.set_type_metatable::<LightUserData>(Some(metatable));
    Ok(())
}

/// A number that is whole and below a billion, as an integer.
fn small_whole(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e9 => Some(*number as i64),
        _ => None,
    }
}

/// `usd(5)` and `usd("0.25")`: whole dollars from a number take the short way.
fn dollars(value: &Value, arena: &Arena) -> Result<Value> {
    let whole = small_whole(value);
    if let Some(packed) =
        whole.and_then(|whole| whole.checked_mul(1_000_000_000)).and_then(|nanos| pack(USD, nanos))
    {
        return Ok(packed);
    }
    let text = decimal_text(value)?;
    let text = text.trim().trim_start_matches('$').replace(',', "");
    usd(Usd::parse(&text).map_err(|error| Error::runtime(error.to_string()))?, arena)
}

fn operators(lua: &Lua, metatable: &Table, shared: &Arc<Shared>) -> Result<()> {
    for (name, test) in [("__lt", Ordering::is_lt as fn(Ordering) -> bool), ("__le", Ordering::is_le)] {
        let cx = Arc::clone(shared);
        let compare =
            move |_: &Lua, (left, right): (Value, Value)| Ok(test(order(&left, &right, &cx.arena)?));
        metatable.raw_set(name, lua.create_function(compare)?)?;
    }
    for (name, operator) in [("__add", Operator::Add), ("__sub", Operator::Subtract)] {
        let cx = Arc::clone(shared);
        let add = move |_: &Lua, (left, right): (Value, Value)| combine(operator, &left, &right, &cx.arena);
        metatable.raw_set(name, lua.create_function(add)?)?;
    }
    let cx = Arc::clone(shared);
    metatable.raw_set(
        "__mul",
        lua.create_function(move |_, (l, r): (Value, Value)| multiply(&l, &r, &cx.arena))?,
    )?;
    let cx = Arc::clone(shared);
    metatable
        .raw_set("__div", lua.create_function(move |_, (l, r): (Value, Value)| ratio(&l, &r, &cx.arena))?)?;
    let cx = Arc::clone(shared);
    let negate = move |_: &Lua, value: Value| match Scalar::read(&value, &cx.arena)? {
        Some(Scalar::Usd(dollars)) => usd(dollars.negated(), &cx.arena),
        Some(Scalar::Amount(money)) => amount(money.checked_neg().map_err(to_error)?, &cx.arena),
        _ => Err(Error::runtime("a time has no sign")),
    };
    metatable.raw_set("__unm", lua.create_function(negate)?)?;
    let cx = Arc::clone(shared);
    metatable.raw_set("__tostring", lua.create_function(move |_, value: Value| show(&value, &cx.arena))?)?;
    let cx = Arc::clone(shared);
    let concat = move |_: &Lua, (left, right): (Value, Value)| {
        Ok(format!("{}{}", show(&left, &cx.arena)?, show(&right, &cx.arena)?))
    };
    metatable.raw_set("__concat", lua.create_function(concat)?)
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn to_error(error: railwatch_model::MoneyError) -> Error {
    Error::runtime(error.to_string())
}

fn show(value: &Value, arena: &Arena) -> Result<String> {
    match Scalar::read(value, arena)? {
        Some(scalar) => Ok(scalar.text()),
        None => match value {
            Value::String(text) => Ok(text.to_string_lossy()),
            Value::Number(_) | Value::Integer(_) => decimal_text(value),
            other => Err(Error::runtime(format!("cannot join {} to a text", other.type_name()))),
        },
    }
}

/// Both operands, or an error that says what a number in their place should have been.
fn both(left: &Value, right: &Value, arena: &Arena) -> Result<(Scalar, Scalar)> {
    let plain = |value: &Value| {
        Error::runtime(format!(
            "an amount and a {} cannot meet; write usd(…) or money(…, code)",
            value.type_name()
        ))
    };
    let left_scalar = Scalar::read(left, arena)?.ok_or_else(|| plain(left))?;
    let right_scalar = Scalar::read(right, arena)?.ok_or_else(|| plain(right))?;
    Ok((left_scalar, right_scalar))
}

fn mismatch(left: &Scalar, right: &Scalar) -> Error {
    let hint = if left.name() == "USD" || right.name() == "USD" {
        "; p.usd is the payment's value in dollars"
    } else {
        ""
    };
    Error::runtime(format!("{} and {} are different assets{hint}", left.name(), right.name()))
}

fn order(left: &Value, right: &Value, arena: &Arena) -> Result<Ordering> {
    let (left, right) = both(left, right, arena)?;
    match (&left, &right) {
        (Scalar::Usd(l), Scalar::Usd(r)) => Ok(l.cmp(r)),
        (Scalar::Time(l), Scalar::Time(r)) => Ok(l.cmp(r)),
        _ => {
            let (l, r) = aligned(&left, &right)?;
            Ok(l.units().cmp(&r.units()))
        }
    }
}

/// Two amounts of one asset; dollars beyond the short form meet as nano-dollars.
fn aligned(left: &Scalar, right: &Scalar) -> Result<(Money, Money)> {
    let nanos = |scalar: &Scalar| match scalar {
        Scalar::Usd(usd) => Some(Money::new(i128::from(usd.nanos()), nano_dollar())),
        Scalar::Amount(money) => Some(money.clone()),
        Scalar::Time(_) => None,
    };
    match (nanos(left), nanos(right)) {
        (Some(l), Some(r)) if l.asset() == r.asset() => Ok((l, r)),
        _ => Err(mismatch(left, right)),
    }
}

fn combine(operator: Operator, left: &Value, right: &Value, arena: &Arena) -> Result<Value> {
    if let Some(Scalar::Time(at)) = Scalar::read(left, arena)?
        && let Value::String(text) = right
    {
        let span = span(&text.to_str()?)?;
        return Ok(time(match operator {
            Operator::Add => at.after(span),
            Operator::Subtract => at.before(span),
        }));
    }
    let (l, r) = both(left, right, arena)?;
    if let (Scalar::Time(l), Scalar::Time(r), Operator::Subtract) = (&l, &r, operator) {
        return Ok(Value::Number(l.secs_f64() - r.secs_f64()));
    }
    // Dollars that fit are added as they are; the sum may still outgrow the short form.
    if let (Scalar::Usd(l), Scalar::Usd(r)) = (&l, &r) {
        let nanos = match operator {
            Operator::Add => l.nanos().checked_add(r.nanos()),
            Operator::Subtract => l.nanos().checked_sub(r.nanos()),
        };
        if let Some(nanos) = nanos {
            return usd(Usd::from_nanos(nanos), arena);
        }
    }
    let (l, r) = aligned(&l, &r)?;
    let result = match operator {
        Operator::Add => l.checked_add(&r),
        Operator::Subtract => l.checked_sub(&r),
    };
    amount(result.map_err(to_error)?, arena)
}

fn multiply(left: &Value, right: &Value, arena: &Arena) -> Result<Value> {
    let (money, factor) = match (Scalar::read(left, arena)?, Scalar::read(right, arena)?) {
        (Some(money), None) => (money, right),
        (None, Some(money)) => (money, left),
        _ => return Err(Error::runtime("an amount can be multiplied by a whole number only")),
    };
    if let (Scalar::Usd(dollars), Some(factor)) = (&money, small_whole(factor))
        && let Some(nanos) = dollars.nanos().checked_mul(factor)
    {
        return usd(Usd::from_nanos(nanos), arena);
    }
    let factor: i128 = decimal_text(factor)?.parse().map_err(|_| {
        Error::runtime(
            "an amount can be multiplied by a whole number only; compare a / b with a number instead",
        )
    })?;
    let (money, _) = aligned(&money, &money)?;
    let units =
        money.units().checked_mul(factor).ok_or_else(|| to_error(railwatch_model::MoneyError::Overflow))?;
    amount(Money::new(units, money.asset().clone()), arena)
}

/// `a / b` of two amounts of one asset is a plain number, for statistics.
fn ratio(left: &Value, right: &Value, arena: &Arena) -> Result<f64> {
    let (left, right) = both(left, right, arena)?;
    if let (Scalar::Usd(l), Scalar::Usd(r)) = (&left, &right) {
        return Ok(if r.nanos() == 0 { 0.0 } else { l.nanos() as f64 / r.nanos() as f64 });
    }
    let (l, r) = aligned(&left, &right)?;
    Ok(if r.is_zero() { 0.0 } else { l.units() as f64 / r.units() as f64 })
}

fn money_methods(lua: &Lua, methods: &Table, shared: &Arc<Shared>) -> Result<()> {
    let cx = Arc::clone(shared);
    let asset = move |_: &Lua, value: Value| {
        let scalar = Scalar::read(&value, &cx.arena)?
            .ok_or_else(|| Error::runtime("asset() is a method of amounts"))?;
        Ok(scalar.name().to_owned())
    };
    methods.raw_set("asset", lua.create_function(asset)?)?;
    let cx = Arc::clone(shared);
    let dollars = move |_: &Lua, value: Value| match Scalar::read(&value, &cx.arena)? {
        Some(Scalar::Usd(usd)) => Ok(usd.dollars()),
        Some(other) => {
            Err(Error::runtime(format!("{} is not in dollars; p.usd is the payment's value", other.name())))
        }
        None => Err(Error::runtime("dollars() is a method of amounts in USD")),
    };
    methods.raw_set("dollars", lua.create_function(dollars)?)?;
    let cx = Arc::clone(shared);
    let is_multiple = move |_: &Lua, (value, unit): (Value, Value)| {
        let (value, unit) = both(&value, &unit, &cx.arena)?;
        let (value, unit) = aligned(&value, &unit)?;
        Ok(value.units().checked_rem(unit.units()) == Some(0))
    };
    methods.raw_set("is_multiple_of", lua.create_function(is_multiple)?)
}

/// A time argument of a method: the receiver, or an error that names the method.
pub(crate) fn receiver_time(value: &Value, arena: &Arena, method: &str) -> Result<Timestamp> {
    match Scalar::read(value, arena)? {
        Some(Scalar::Time(at)) => Ok(at),
        _ => Err(Error::runtime(format!("{method}() is a method of times, such as p.at:{method}()"))),
    }
}

#[cfg(test)]
mod tests;
