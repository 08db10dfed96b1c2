//! The sandbox: one machine per script, with an explicit library, a step budget, a wall deadline and a memory cap.
//!
//! A machine of its own is what keeps a script's memory and its mistakes to itself; it costs about 100 KB and no time
//! per call. Nothing outside the environment built here can be reached from a script: there is no `require`, no
//! `load`, no `getmetatable`, no `coroutine`, no clock and no random number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use mlua::chunk::{ChunkMode, Compiler};
use mlua::{FromLuaMulti, Function, IntoLuaMulti, Lua, LuaOptions, LuaString, StdLib, Table, Value, VmState};

use crate::arena::Arena;
use crate::error::Failure;
use crate::limits::Limits;
use crate::value;

/// Functions of the base library that a script may have, besides those of the prelude.
pub(crate) const BASE: &[&str] = &[
    "assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawlen", "select",
    "tonumber", "type", "typeof", "unpack", "xpcall",
];

/// Built-ins that the compiler must not short-cut, because a script must not have them at all.
const DISABLED: &[&str] = &["getfenv", "getmetatable", "rawset", "setfenv", "setmetatable", "tostring"];

/// What one machine's callbacks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) meter: Meter,
    pub(crate) arena: Arena,
    pub(crate) limits: Limits,
    /// The rule's notes on the subject in hand.
    pub(crate) notes: crate::state::Notes,
    /// The longest window that the script asked for, and may ask for once it is loaded, in microseconds.
    pub(crate) window_asked: AtomicU64,
    pub(crate) window_max: AtomicU64,
}

/// Counts a call's steps and reads the clock now and then.
#[derive(Debug)]
pub(crate) struct Meter {
    steps: AtomicU32,
    started_micros: AtomicU64,
    stopped: AtomicBool,
    limits: Limits,
}

/// Steps between two looks at the clock.
const STEPS_PER_LOOK: u32 = 16;

impl Meter {
    fn new(limits: Limits) -> Self {
        Self {
            steps: AtomicU32::new(0),
            started_micros: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            limits,
        }
    }

    /// Begins a call. The clock is first read by a call that makes [`STEPS_PER_LOOK`] steps; most never do.
    fn start(&self) {
        self.steps.store(0, Ordering::Relaxed);
        self.started_micros.store(u64::MAX, Ordering::Relaxed);
        self.stopped.store(false, Ordering::Relaxed);
    }

    fn step(&self) -> mlua::Result<VmState> {
        let steps = self.steps.load(Ordering::Relaxed).saturating_add(1);
        self.steps.store(steps, Ordering::Relaxed);
        if steps.is_multiple_of(STEPS_PER_LOOK)
            || steps > self.limits.steps_max
            || self.stopped.load(Ordering::Relaxed)
        {
            self.look(steps)?;
        }
        Ok(VmState::Continue)
    }

    /// Once a call is over its budget, every further step fails: catching the error buys nothing.
    fn look(&self, steps: u32) -> mlua::Result<()> {
        let now = u64::try_from((self.limits.monotonic)().as_micros()).unwrap_or(u64::MAX - 1);
        let started = match self.started_micros.load(Ordering::Relaxed) {
            u64::MAX => {
                self.started_micros.store(now, Ordering::Relaxed);
                now
            }
            started => started,
        };
        let deadline = u64::try_from(self.limits.deadline.as_micros()).unwrap_or(u64::MAX);
        if steps > self.limits.steps_max {
            self.stopped.store(true, Ordering::Relaxed);
            return Err(mlua::Error::runtime(format!(
                "stopped: more than {} steps in one call",
                self.limits.steps_max
            )));
        }
        if now.saturating_sub(started) > deadline || self.stopped.load(Ordering::Relaxed) {
            self.stopped.store(true, Ordering::Relaxed);
            return Err(mlua::Error::runtime(format!("stopped: ran longer than {:?}", self.limits.deadline)));
        }
        Ok(())
    }
}

/// A machine and the name of the script in it.
pub(crate) struct Vm {
    pub(crate) lua: Lua,
    pub(crate) file: String,
    pub(crate) shared: Arc<Shared>,
    env: Table,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm")
            .field("file", &self.file)
            .field("memory_bytes", &self.lua.used_memory())
            .finish_non_exhaustive()
    }
}

impl Vm {
    /// A machine for the script called `file`, with the whole API in its environment. `extend` adds what depends on
    /// the caller, such as `fixture`.
    pub(crate) fn new(
        file: &str,
        limits: &Limits,
        extend: impl FnOnce(&Lua, &Table) -> mlua::Result<()>,
    ) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            meter: Meter::new(*limits),
            arena: Arena::default(),
            limits: *limits,
            notes: crate::state::Notes::default(),
            window_asked: AtomicU64::new(0),
            window_max: AtomicU64::new(u64::MAX),
        });
        let (lua, env) = build(&shared, extend).map_err(|error| Failure::from_lua(&error, file))?;
        Ok(Self { lua, file: file.to_owned(), shared, env })
    }

    /// Refuses windows that are longer than this.
    pub(crate) fn window_max(&self, longest: std::time::Duration) {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        self.shared.window_max.store(micros, Ordering::Relaxed);
    }

    /// A value as a script's `tostring` shows it.
    pub(crate) fn show(&self, value: &Value) -> String {
        let text = self.env.raw_get::<Function>("tostring").and_then(|show| show.call::<String>(value));
        text.unwrap_or_else(|_| value.type_name().to_owned())
    }

    /// The names that the script can see.
    #[cfg(test)]
    pub(crate) fn environment(&self) -> &Table {
        &self.env
    }

    /// Runs the script's source and returns what it returns.
    pub(crate) fn run(&self, source: &str) -> Result<Value, Failure> {
        let chunk = self
            .lua
            .load(source)
            .set_name(format!("={}", self.file))
            .set_mode(ChunkMode::Text)
            .set_environment(self.env.clone())
            .into_function()
            .map_err(|error| Failure::from_lua(&error, &self.file))?;
        let returned = self.call::<Value>(&chunk, ())?;
        self.shared.arena.seal();
        Ok(returned)
    }

    /// Calls a function of the script under its limits.
    pub(crate) fn call<R: FromLuaMulti>(
        &self,
        function: &Function,
        args: impl IntoLuaMulti,
    ) -> Result<R, Failure> {
        self.shared.meter.start();
        self.shared.arena.begin();
        let result = function.call::<R>(args);
        let stopped = self.shared.meter.stopped.load(Ordering::Relaxed);
        match result {
            Ok(value) if !stopped => Ok(value),
            Ok(_) => Err(Failure {
                stopped,
                ..Failure::plain("stopped: caught the error that should have stopped it")
            }),
            Err(error) => Err(self.failed(&error, stopped)),
        }
    }

    /// The slow path of [`Vm::call`]: whatever the call left behind is collected at once, so that the next call of
    /// the script starts with its whole memory.
    #[cold]
    fn failed(&self, error: &mlua::Error, stopped: bool) -> Failure {
        let mut failure = Failure::from_lua(error, &self.file);
        failure.stopped |= stopped;
        self.shared.meter.start();
        if self.lua.gc_collect().is_err() {
            failure.stopped = true;
        }
        failure
    }
}

fn build(
    shared: &Arc<Shared>,
    extend: impl FnOnce(&Lua, &Table) -> mlua::Result<()>,
) -> mlua::Result<(Lua, Table)> {
    let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default())?;
    lua.set_compiler(
        Compiler::new()
            .set_optimization_level(2)
            .set_debug_level(1)
            .set_disabled_builtins(DISABLED.iter().copied()),
    );
    let library: Table = lua.load(include_str!("prelude.lua")).set_name("=prelude").eval()?;
    let globals = lua.globals();
    for name in BASE {
        library.raw_set(*name, globals.raw_get::<Value>(*name)?)?;
    }
    value::install(&lua, &library, shared)?;
    extend(&lua, &library)?;
    library.set_readonly(true);
    library.set_safeenv(true);
    let strings = lua.create_table()?;
    strings.raw_set("__index", library.raw_get::<Table>("string")?)?;
    strings.raw_set("__metatable", false)?;
    strings.set_readonly(true);
    lua.set_type_metatable::<LuaString>(Some(strings));
    let meter = Arc::clone(shared);
    lua.set_interrupt(move |_| meter.meter.step());
    lua.gc_collect()?;
    lua.set_memory_limit(shared.limits.memory_bytes_max)?;
    Ok((lua, library))
}
