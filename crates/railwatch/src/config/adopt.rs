//! Adopting a spender: its identity is written into the configuration where a person would write it, and nothing else
//! in the file changes.

use std::path::{Path, PathBuf};

use super::diagnostic::SourceFile;
use super::files;
use super::tree::{self, Node};

/// A file as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The file.
    pub path: PathBuf,
    /// What it was.
    pub before: String,
    /// Its new content.
    pub text: String,
    /// The line that is new or changed, from 1.
    pub line: usize,
}

/// Adds `value` to what `agent` matches under `scheme`, in the file that declares the agent; an agent that none declares
/// is declared at the end of the main file. `None` if a file cannot be read or is not TOML: `check` says why.
pub fn adopt(path: &Path, agent: &str, scheme: &str, value: &str) -> Option<Edited> {
    let mut errors = Vec::new();
    let sources = files::read_all(path, &mut errors);
    if !errors.is_empty() {
        return None;
    }
    let quote = |text: &str| toml::Value::from(text).to_string();
    let words = Words { scheme: quote(scheme), value: quote(value) };
    for SourceFile { path, text } in &sources {
        let parsed = tree::parse(0, text);
        if parsed.fatal {
            return None;
        }
        let declared = parsed.root.elements("agents").iter();
        let mut declared = declared.filter(|node| node.child("id").and_then(Node::text) == Some(agent));
        if let Some(node) = declared.next() {
            let (at, insert) = words.for_agent(text, node, scheme)?;
            return Some(edited(path, text, at, &insert));
        }
    }
    let SourceFile { path, text } = sources.first()?;
    let gap = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    let Words { scheme, value } = &words;
    let block = format!("{gap}\n[[agents]]\nid = {}\n[agents.match]\n{scheme} = [{value}]\n", quote(agent));
    Some(edited(path, text, text.len(), &block))
}

fn edited(path: &Path, before: &str, at: usize, insert: &str) -> Edited {
    let (head, tail) = before.split_at(at);
    let blank = insert.len() - insert.trim_start_matches('\n').len();
    let line = head.matches('\n').count() + blank + 1;
    Edited { path: path.to_owned(), before: before.to_owned(), text: format!("{head}{insert}{tail}"), line }
}

/// The scheme and the value as TOML writes them.
struct Words {
    scheme: String,
    value: String,
}

impl Words {
    /// Where to insert what, so that the agent at `node` matches the value too.
    fn for_agent(&self, text: &str, node: &Node, scheme: &str) -> Option<(usize, String)> {
        let Self { scheme: key, value } = self;
        let Some(matches) = node.child("match") else {
            let id = node.child("id")?;
            return Some(beside(text, id.place.end, &format!("match = {{ {key} = [{value}] }}")));
        };
        if let Some(values) = matches.child(scheme) {
            let end = values.place.end.checked_sub(1)?;
            let before = text.get(values.place.start..end)?.trim_end();
            let comma = if before.ends_with(['[', ',']) { "" } else { ", " };
            let at = values.place.start + before.len();
            return Some((at, format!("{comma}{value}")));
        }
        let last = matches.table()?.values().map(|entry| entry.place.end).max();
        match last {
            Some(end) => Some(beside(text, end, &format!("{key} = [{value}]"))),
            None if text.get(matches.place.start..)?.starts_with('{') => {
                Some((matches.place.start + 1, format!(" {key} = [{value}] ")))
            }
            None => Some(beside(text, matches.key.end.max(matches.place.end), &format!("{key} = [{value}]"))),
        }
    }
}

/// Puts an entry behind the one that ends at `end`: on a line of its own, or after a comma inside an inline table.
fn beside(text: &str, end: usize, entry: &str) -> (usize, String) {
    let rest = text.get(end..).unwrap_or_default();
    let line = rest.split('\n').next().unwrap_or_default();
    let is_last_of_line = line.trim_start_matches([']', ' ', '\t', '\r']);
    if is_last_of_line.is_empty() || is_last_of_line.starts_with('#') {
        let at = end + line.len();
        let indent = indent_of(text, end);
        return (at, format!("\n{indent}{entry}"));
    }
    (end, format!(", {entry}"))
}

fn indent_of(text: &str, at: usize) -> &str {
    let start = text.get(..at).and_then(|head| head.rfind('\n')).map_or(0, |newline| newline + 1);
    let line = text.get(start..).unwrap_or_default();
    let width = line.len() - line.trim_start_matches([' ', '\t']).len();
    line.get(..width).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adopts `x:1` for `ann` in this file.
    #[track_caller]
    fn check(before: &str, after: &str, line: usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("railwatch.toml");
        std::fs::write(&path, before).unwrap();
        let edited = adopt(&path, "ann", "x", "1").unwrap();
        assert_eq!((edited.text.as_str(), edited.line), (after, line));
        let root = tree::parse(0, after).root;
        let agent =
            root.elements("agents").iter().find(|node| node.child("id").and_then(Node::text) == Some("ann"));
        let values = agent.unwrap().child("match").unwrap().child("x").unwrap().array().unwrap().to_vec();
        assert!(values.iter().any(|value| value.text() == Some("1")), "{values:?}");
    }

    #[test]
    fn an_agent_is_declared_or_gets_one_more_identity() {
        check("", "\n[[agents]]\nid = \"ann\"\n[agents.match]\n\"x\" = [\"1\"]\n", 2);
        check("a = 1", "a = 1\n\n[[agents]]\nid = \"ann\"\n[agents.match]\n\"x\" = [\"1\"]\n", 3);
        check(
            "[[agents]]\nid = \"ann\" # of Bob\nteam = \"t\"\n",
            "[[agents]]\nid = \"ann\" # of Bob\nmatch = { \"x\" = [\"1\"] }\nteam = \"t\"\n",
            3,
        );
        check(
            "[[agents]]\nid = \"ann\"\n[agents.match]\n  y = [\"2\"] # other\n[http]\n",
            "[[agents]]\nid = \"ann\"\n[agents.match]\n  y = [\"2\"] # other\n  \"x\" = [\"1\"]\n[http]\n",
            5,
        );
        check(
            "[[agents]]\nid = \"ann\"\nmatch = { x = [\"0\"] }\n",
            "[[agents]]\nid = \"ann\"\nmatch = { x = [\"0\", \"1\"] }\n",
            3,
        );
        check(
            "[[agents]]\nid = \"ann\"\n[agents.match]\nx = [\n  \"0\",\n]\n",
            "[[agents]]\nid = \"ann\"\n[agents.match]\nx = [\n  \"0\",\"1\"\n]\n",
            5,
        );
        check(
            "[[agents]]\nid = \"ann\"\nmatch = { y = [\"2\"] }\n",
            "[[agents]]\nid = \"ann\"\nmatch = { y = [\"2\"], \"x\" = [\"1\"] }\n",
            3,
        );
        check(
            "agents = [{ id = \"ann\" }]\n",
            "agents = [{ id = \"ann\", match = { \"x\" = [\"1\"] } }]\n",
            1,
        );
    }

    #[test]
    fn an_unreadable_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("railwatch.toml");
        assert_eq!(adopt(&path, "ann", "x", "1"), None);
        std::fs::write(&path, "not toml").unwrap();
        assert_eq!(adopt(&path, "ann", "x", "1"), None);
    }
}
