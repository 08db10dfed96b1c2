//! The script API on one page, and as type definitions for editors. Both are written from [`lists`]; tests hold the
//! lists against what the sandbox really has.

mod lists;

use lists::{Entry, FUNCTIONS, LIBRARY, PARTS};

const OPENING: &str = r#"# Scripts

Rules, scores and rail decoders in Luau. This folder is read as a whole; a change takes effect on save, after every
script has compiled and passed the tests in its own file. If one does not, everything stays as it was.

| file | what |
|---|---|
| `score.lua` | the score in force |
| `scores/*.lua` | other scores, one line of configuration away |
| `rules/*.lua` | rules |
| `rails/*.lua` | decoders, named by a source's `decode = "…"`; `rails/fixtures/` holds recorded messages |

```lua
return rule {
  id = "night-drain", severity = "high", hold = "2m",
  when = function(p, a) return p.at:hour() < 6 and a:spent("10m") > usd(50) end,
  why = function(p, a) return `{a.id} spent {a:spent("10m")} in 10 minutes at night` end,
  tests = {
    { "fires after hold", clock = "2026-01-01T02:00Z", feed = spend("a1", usd(6), { every = "1m", times = 12 }), expect = firing("a1", "+12m") },
    { "quiet by day", clock = "2026-01-01T12:00Z", feed = spend("a1", usd(6), { every = "1m", times = 12 }), expect = quiet },
  },
}
```

A script can score, fire, decode or stay silent. It has no clock, no random numbers, no files, no network and no other
script. A call that runs too long (50 ms) or takes too much memory (8 MB) is stopped, its notes are taken back, and the
failure is shown with its line and the payment that caused it; a rule or score that keeps failing (20 times) is
quarantined until it is edited. Nothing is lost by a failing script. `state.key` keeps texts, numbers, flags, dollars and times per rule and agent (32 keys of 256
bytes). Keep nothing in variables of the file between calls: it is gone after a reload.

A condition or formula of comparisons, arithmetic, `math`, fields, windows, notes, `local x = …` and `if … then return …
end` is also read into a tree that is asked first: where it finds that nothing fires, the machine is not entered at all.
Tables, text functions (but `string.sub(text, 1, 100)`) and calls of one's own always enter it, which costs about ten
times as much. A formula that is zero where no signal has a probability is not even asked about calm agents.
"#;

/// The page that `scripts/README.md` holds.
pub fn reference() -> String {
    let mut page = OPENING.to_owned();
    for part in PARTS {
        page.push_str(&format!("\n## {}\n", part.title));
        if !part.intro.is_empty() {
            page.push_str(&format!("{}\n\n", part.intro));
        }
        page.push_str("| name | type | |\n|---|---|---|\n");
        for Entry(name, shape, says) in part.entries {
            page.push_str(&format!("| `{name}` | `{}` | {says} |\n", shape.replace('|', "\\|")));
        }
    }
    page.push_str("\n## The library\n");
    page.push_str(&format!("`{}`, `tostring`; of the tables:\n", crate::vm::BASE.join("`, `")));
    for (table, names) in LIBRARY {
        page.push_str(&format!("- `{table}`: `{}`\n", names.join("`, `")));
    }
    page.push_str("\nTexts are cut off at 64 KB, patterns at 256 bytes; addresses are never shown.\n");
    page
}

/// The Luau definition file that `railwatch types` writes, for editors with luau-lsp.
pub fn types() -> String {
    let mut text = "-- Type definitions of the railwatch script API, for luau-lsp. Generated; do not edit.\n\
                    type State = { [string]: any }\ntype Feed = { [string]: any }\n\
                    type Fed = { [string]: any }\ntype Expectation = { [string]: any }\n"
        .to_owned();
    for part in PARTS {
        match part.class {
            "" => {}
            "Money" | "Time" => class(&mut text, part.class, part.entries),
            record => {
                text.push_str(&format!("\nexport type {record} = {{\n"));
                for Entry(name, shape, says) in part.entries {
                    text.push_str(&format!("  -- {says}\n  {name}: {shape},\n"));
                }
                text.push_str("}\n");
            }
        }
    }
    text.push('\n');
    for Entry(name, shape, says) in FUNCTIONS {
        let declaration = match shape.split_once(" -> ") {
            Some((takes, gives)) => format!("declare function {name}{takes}: {gives}"),
            None => format!("declare {name}: {shape}"),
        };
        text.push_str(&format!("-- {says}\n{declaration}\n"));
    }
    text
}

/// A type with operators, which only a class can declare.
fn class(text: &mut String, class: &str, entries: &[Entry]) {
    text.push_str(&format!("\ndeclare class {class}\n"));
    for Entry(name, shape, says) in entries {
        let method = shape.replacen(&format!("self: {class}"), "self", 1).replacen(" -> ", ": ", 1);
        text.push_str(&format!("  -- {says}\n  function {name}{method}\n"));
    }
    for operator in operators(class) {
        text.push_str(&format!("  function {operator}\n"));
    }
    text.push_str("end\n");
}

fn operators(class: &str) -> &'static [&'static str] {
    match class {
        "Money" => &[
            "__add(self, other: Money): Money",
            "__sub(self, other: Money): Money",
            "__mul(self, times: number): Money",
            "__div(self, other: Money): number",
            "__unm(self): Money",
            "__lt(self, other: Money): boolean",
            "__le(self, other: Money): boolean",
        ],
        _ => &[
            "__add(self, span: string): Time",
            "__sub(self, other: Time): number",
            "__lt(self, other: Time): boolean",
            "__le(self, other: Time): boolean",
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use mlua::{Table, Value};

    use super::lists::*;
    use super::*;
    use crate::vm::Vm;
    use crate::{Limits, payment, rail, rule, score, view};

    fn names(entries: &[Entry]) -> BTreeSet<String> {
        entries.iter().map(|entry| entry.0.to_owned()).collect()
    }

    #[track_caller]
    fn check(what: &str, listed: &[Entry], real: impl IntoIterator<Item = impl Into<String>>) {
        let real: BTreeSet<String> = real.into_iter().map(Into::into).collect();
        assert_eq!(names(listed), real, "{what}");
    }

    fn keys(table: &Table) -> BTreeSet<String> {
        table.pairs::<String, Value>().map(|pair| pair.unwrap().0).collect()
    }

    #[test]
    fn the_page_in_the_repository_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/README.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        let hint = "scripts/README.md is stale: cargo run -p railwatch-script --example reference > scripts/README.md";
        assert!(page == reference(), "{hint}");
    }

    #[test]
    fn the_lists_are_what_the_sandbox_has() {
        let vm = Vm::new("x.lua", &Limits::default(), |lua, env| {
            crate::scripts::declarations(lua, env, "x.lua", &std::sync::Arc::default())
        })
        .unwrap();
        let library: BTreeSet<&str> =
            crate::vm::BASE.iter().copied().chain(["tostring", "string", "table", "math"]).collect();
        let globals = keys(vm.environment());
        check("globals", FUNCTIONS, globals.into_iter().filter(|name| !library.contains(name.as_str())));
        for (table, names) in LIBRARY {
            let real = keys(&vm.environment().raw_get::<Table>(*table).unwrap());
            assert_eq!(real, names.iter().map(|name| (*name).to_owned()).collect(), "{table}");
        }
        let metatable = vm.lua.type_metatable::<mlua::LightUserData>().unwrap();
        let methods = keys(&metatable.raw_get::<Table>("__index").unwrap());
        assert_eq!(names(MONEY).union(&names(TIME)).cloned().collect::<BTreeSet<_>>(), methods);
        check("rule", RULE, rule::KEYS.iter().copied());
        check("score", SCORE, score::KEYS.iter().copied());
        check("rail", RAIL, rail::KEYS.iter().copied());
        check("payment", PAYMENT, view::PAYMENT_FIELDS.iter().copied().chain(["label", "spender"]));
        let agent = view::AGENT_FIELDS.iter().chain(view::AGENT_METHODS).chain(view::KINDS);
        check("agent", AGENT, agent.copied());
        check("decoded", DECODED, payment::FIELDS.iter().copied());
        check("test", TEST, crate::testing::KEYS.iter().copied());
        let listed = names(SIGNAL);
        assert!(view::SIGNAL_NUMBERS.iter().all(|field| listed.contains(*field)));
    }

    #[test]
    fn the_methods_of_the_views_are_the_listed_ones() {
        let vm = Vm::new("x.lua", &Limits::default(), |_, _| Ok(())).unwrap();
        let views = view::Views::new(&vm).unwrap();
        let expected: BTreeSet<String> =
            view::AGENT_METHODS.iter().chain(view::KINDS).map(|name| (*name).to_owned()).collect();
        assert_eq!(keys(&views.agent), expected);
    }

    #[test]
    fn the_record_types_parse() {
        // `declare` is for definition files only; everything else must parse as the language does.
        let text = types();
        let mut plain = String::from("type Money = any\ntype Time = any\n");
        let mut in_class = false;
        for line in text.lines() {
            in_class |= line.starts_with("declare class");
            if !in_class && !line.starts_with("declare") {
                plain.push_str(line);
                plain.push('\n');
            }
            in_class &= line != "end";
        }
        mlua::Lua::new().load(plain).into_function().unwrap();
        for Entry(name, ..) in FUNCTIONS {
            assert!(
                text.contains(&format!("declare function {name}("))
                    || text.contains(&format!("declare {name}:")),
                "{name}"
            );
        }
    }
}
