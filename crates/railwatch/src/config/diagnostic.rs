//! What is wrong with a configuration, where, and what would be accepted; shown like the Rust compiler shows it.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level as Heading, Renderer, Snippet};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

/// A range of bytes in one of the configuration's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The index of the file in [`Diagnostics::files`].
    pub file: usize,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// One file of the configuration, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path, as it was found.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// Whether a configuration can be used in spite of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The configuration does not load.
    Error,
    /// The configuration loads, and is probably not what was meant.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub level: Level,
    /// The key path, such as `sources.gate.url`; empty if it is about a file as a whole.
    pub path: String,
    /// What is wrong, as a lower-case sentence without a full stop.
    pub message: String,
    /// Where; `None` if it is about a file that cannot be read.
    pub place: Option<Place>,
    /// What stands under the caret: what was expected.
    pub label: String,
    /// Other places that matter, with what they are.
    pub related: Vec<(Place, String)>,
    /// What to do about it: "did you mean `url`?".
    pub help: Option<String>,
}

/// All findings about a configuration, with the texts that they point into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// The files.
    pub files: Vec<SourceFile>,
    /// The findings: errors first, then in the order of the files.
    pub list: Vec<Diagnostic>,
    /// Findings beyond [`Diagnostics::LEN_MAX`], which are counted and not kept.
    pub omitted: usize,
    /// Ranges that may hold a secret that was written into the file: excerpts show stars instead.
    masks: Vec<Place>,
}

impl Diagnostic {
    /// An error.
    pub fn error(path: impl Into<String>, message: impl Into<String>, place: Place) -> Self {
        Self {
            level: Level::Error,
            path: path.into(),
            message: message.into(),
            place: Some(place),
            label: String::new(),
            related: Vec::new(),
            help: None,
        }
    }

    /// A warning.
    pub fn warning(path: impl Into<String>, message: impl Into<String>, place: Place) -> Self {
        Self { level: Level::Warning, ..Self::error(path, message, place) }
    }

    /// An error about a file as a whole.
    pub fn file(message: impl Into<String>) -> Self {
        let nowhere = Place { file: 0, start: 0, end: 0 };
        Self { place: None, ..Self::error("", message, nowhere) }
    }

    /// Says what was expected.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Shows another place.
    #[must_use]
    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push((place, label.into()));
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

impl Diagnostics {
    /// Findings that are kept: nobody reads more, and a generated file may have one per agent.
    pub const LEN_MAX: usize = 200;

    /// Sorts `list` and cuts it to what is kept.
    pub(super) fn new(files: Vec<SourceFile>, mut list: Vec<Diagnostic>, masks: Vec<Place>) -> Self {
        list.sort_by(|a, b| (a.level, a.place, &a.path).cmp(&(b.level, b.place, &b.path)));
        list.dedup();
        let omitted = list.len().saturating_sub(Self::LEN_MAX);
        list.truncate(Self::LEN_MAX);
        Self { files, list, omitted, masks }
    }

    /// Other findings about the same files.
    pub(super) fn with(&self, list: Vec<Diagnostic>) -> Self {
        Self::new(self.files.clone(), list, self.masks.clone())
    }

    /// True if nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True if the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.level == Level::Error)
    }

    /// Adds a finding that was made later, such as by building a plugin.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < Self::LEN_MAX {
            self.list.push(diagnostic);
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    /// File, line and column (both from 1, the column in characters) of the beginning of a place.
    pub fn line_column(&self, place: Place) -> Option<(&SourceFile, usize, usize)> {
        let file = self.files.get(place.file)?;
        let before = file.text.get(..place.start.min(file.text.len()))?;
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
        Some((file, line, column))
    }

    /// The text for people; with terminal colors if `color`.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for diagnostic in &self.list {
            text.push_str(&self.render_one(&renderer, diagnostic));
            text.push_str("\n\n");
        }
        if self.omitted > 0 {
            text.push_str(&format!("… and {} more\n", self.omitted));
        }
        text
    }

    fn render_one(&self, renderer: &Renderer, diagnostic: &Diagnostic) -> String {
        let heading = match diagnostic.level {
            Level::Error => Heading::ERROR,
            Level::Warning => Heading::WARNING,
        };
        let title = heading.primary_title(diagnostic.message.as_str());
        let mut group = Group::with_title(title);
        for excerpt in self.excerpts(diagnostic) {
            let mut snippet = Snippet::source(excerpt.text).line_start(excerpt.line).path(excerpt.path);
            for (kind, span, label) in excerpt.marks {
                let label = (!label.is_empty()).then_some(label);
                snippet = snippet.annotation(kind.span(span).label(label));
            }
            group = group.element(snippet);
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Heading::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// The lines around a finding's places, one excerpt per place, or one for both if they are close together.
    fn excerpts<'a>(&'a self, diagnostic: &'a Diagnostic) -> Vec<Excerpt<'a>> {
        let primary = diagnostic.place.map(|place| (AnnotationKind::Primary, place, &diagnostic.label));
        let related =
            diagnostic.related.iter().map(|(place, label)| (AnnotationKind::Context, *place, label));
        let mut excerpts: Vec<Excerpt<'a>> = Vec::new();
        for (kind, place, label) in primary.into_iter().chain(related) {
            let Some(file) = self.files.get(place.file) else { continue };
            let near = excerpts.iter_mut().find(|excerpt| excerpt.is_near(place));
            let excerpt = match near {
                Some(excerpt) => {
                    excerpt.widen(file, place);
                    excerpt
                }
                None => {
                    excerpts.push(Excerpt::new(file, place));
                    excerpts.last_mut().expect("it was pushed just now")
                }
            };
            excerpt.marks.push((kind, place.start..place.end, label));
        }
        for excerpt in &mut excerpts {
            excerpt.finish(self);
        }
        excerpts
    }

    /// A part of a file with stars in place of what may be a secret, byte for byte.
    fn masked(&self, file: usize, range: Range<usize>) -> String {
        let text = self.files.get(file).map_or("", |file| file.text.as_str());
        let mut shown = text.get(range.clone()).unwrap_or_default().to_owned();
        for mask in self.masks.iter().filter(|mask| mask.file == file) {
            let start = mask.start.max(range.start).min(range.end).saturating_sub(range.start);
            let end = mask.end.max(range.start).min(range.end).saturating_sub(range.start);
            if let Some(hidden) = shown.get(start..end) {
                let stars: String = hidden
                    .bytes()
                    .map(|byte| {
                        if matches!(byte, b'\"' | b'\'' | b' ' | b'\n' | b'\r') {
                            char::from(byte)
                        } else {
                            '*'
                        }
                    })
                    .collect();
                shown.replace_range(start..end, &stars);
            }
        }
        shown
    }
}

/// Lines of one file, and the marks in them.
struct Excerpt<'a> {
    file: usize,
    path: String,
    range: Range<usize>,
    text: String,
    line: usize,
    marks: Vec<(AnnotationKind, Range<usize>, &'a str)>,
}

/// Places of one file that are further apart than this get excerpts of their own.
const NEAR_BYTES: usize = 20_000;

impl Excerpt<'_> {
    fn new(file: &SourceFile, place: Place) -> Self {
        let range = lines_around(&file.text, place.start..place.end);
        let path = file.path.display().to_string();
        Self { file: place.file, path, range, text: String::new(), line: 1, marks: Vec::new() }
    }

    fn is_near(&self, place: Place) -> bool {
        self.file == place.file
            && self.range.start.abs_diff(place.start) < NEAR_BYTES
            && self.range.end.abs_diff(place.end) < NEAR_BYTES
    }

    fn widen(&mut self, file: &SourceFile, place: Place) {
        let range = lines_around(&file.text, place.start..place.end);
        self.range = self.range.start.min(range.start)..self.range.end.max(range.end);
    }

    fn finish(&mut self, diagnostics: &Diagnostics) {
        let start = Place { file: self.file, start: self.range.start, end: self.range.start };
        self.line = diagnostics.line_column(start).map_or(1, |(_, line, _)| line);
        self.text = diagnostics.masked(self.file, self.range.clone());
        for (_, span, _) in &mut self.marks {
            let inside =
                |at: usize| at.clamp(self.range.start, self.range.end).saturating_sub(self.range.start);
            let (start, end) = (inside(span.start), inside(span.end));
            // A value of many lines is marked by its first line.
            let first_line = self.text.get(start..end).and_then(|marked| marked.find('\n'));
            *span = start..first_line.map_or(end, |len| start.saturating_add(len));
        }
    }
}

fn lines_around(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text.get(..range.start.min(text.len())).and_then(|before| before.rfind('\n'));
    let end = text.get(range.end.min(text.len())..).and_then(|after| after.find('\n'));
    let start = start.map_or(0, |at| at.saturating_add(1));
    start..end.map_or(text.len(), |at| range.end.saturating_add(at))
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// A place as tools want it.
#[derive(Serialize)]
struct Location<'a> {
    file: String,
    line: usize,
    column: usize,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'a str,
}

#[derive(Serialize)]
struct Entry<'a> {
    level: Level,
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    message: &'a str,
    #[serde(flatten)]
    location: Option<Location<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Location<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

impl Diagnostics {
    fn location<'a>(&self, place: Place, label: &'a str) -> Option<Location<'a>> {
        let (file, line, column) = self.line_column(place)?;
        Some(Location { file: file.path.display().to_string(), line, column, label })
    }

    fn entry<'a>(&self, diagnostic: &'a Diagnostic) -> Entry<'a> {
        let related = diagnostic.related.iter();
        Entry {
            level: diagnostic.level,
            path: &diagnostic.path,
            message: &diagnostic.message,
            location: diagnostic.place.and_then(|place| self.location(place, &diagnostic.label)),
            related: related.filter_map(|(place, label)| self.location(*place, label)).collect(),
            help: diagnostic.help.as_deref(),
        }
    }
}

impl Serialize for Diagnostics {
    /// `{"findings": [{"level", "path", "message", "file", "line", "column", "label", "related", "help"}], "omitted": 0}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let findings: Vec<_> = self.list.iter().map(|diagnostic| self.entry(diagnostic)).collect();
        let mut map = serializer.serialize_struct("Diagnostics", 2)?;
        map.serialize_field("findings", &findings)?;
        map.serialize_field("omitted", &self.omitted)?;
        map.end()
    }
}

/// "did you mean …?", if one of the candidates is close to what was written.
pub(super) fn did_you_mean<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let close = |candidate: &str| {
        let score = strsim::jaro_winkler(&written.to_lowercase(), &candidate.to_lowercase());
        let edits = strsim::damerau_levenshtein(written, candidate);
        (score >= 0.8 || edits <= 1).then_some(score)
    };
    let scored = candidates.into_iter().filter_map(|candidate| Some((candidate, close(candidate)?)));
    let best = scored.max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map(|(candidate, _)| format!("did you mean `{candidate}`?"))
}
