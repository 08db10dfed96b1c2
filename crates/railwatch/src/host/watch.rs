//! Watches the files that a configuration is read from, and wishes for a reload when they have changed and are still.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use railwatch_model::SmolStr;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Loaded;
use crate::host::Reload;

/// Editors write in several steps: files must be still for this long.
pub(crate) const DEBOUNCE: Duration = Duration::from_millis(150);
/// How long that is waited for at most.
const PATIENCE: Duration = Duration::from_millis(800);
/// Who wishes for a reload when files changed.
pub(crate) const WATCHER: &str = "watcher";
/// Folders that are watched at most.
const FOLDERS_MAX: usize = 256;

/// The folders that matter. Folders are watched rather than files, because editors replace files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Watched(BTreeSet<PathBuf>);

impl Watched {
    /// Where a configuration is read from, and where a user who follows the documentation puts the next script.
    pub(crate) fn of(loaded: &Loaded) -> Self {
        let base_dir = &loaded.base_dir;
        let mut folders = BTreeSet::from([base_dir.clone(), base_dir.join("conf.d")]);
        below(&base_dir.join("scripts"), &mut folders);
        for (_, named) in loaded.config.scripts() {
            let full = base_dir.join(named);
            if full.is_dir() {
                below(&full, &mut folders);
            } else if let Some(folder) = full.parent() {
                folders.extend([folder.to_owned(), folder.join("fixtures")]);
            }
        }
        folders.retain(|folder| folder.is_dir());
        Self(folders)
    }
}

fn below(folder: &Path, folders: &mut BTreeSet<PathBuf>) {
    if folders.len() >= FOLDERS_MAX || !folder.is_dir() {
        return;
    }
    folders.insert(folder.to_owned());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && entry.path().is_dir() {
            below(&entry.path(), folders);
        }
    }
}

/// Wishes for a reload after every change, until cancelled. What is watched follows the configuration.
pub(crate) async fn watch(
    config_path: PathBuf,
    mut watched: watch::Receiver<Watched>,
    wishes: mpsc::Sender<Reload>,
    cancel: CancellationToken,
) {
    let (sender, mut changes) = mpsc::channel(1);
    let unseen = sender.clone();
    let on_change = move |event: notify::Result<notify::Event>| {
        let is_change = event.is_ok_and(|event| {
            !event.kind.is_access() && event.paths.iter().any(|path| matters(path, &config_path))
        });
        if is_change {
            // A full channel already says that something changed.
            sender.try_send(()).ok();
        }
    };
    let mut watcher = match RecommendedWatcher::new(on_change, notify::Config::default()) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "files cannot be watched; use `railwatch reload` or SIGHUP");
            return;
        }
    };
    let mut current = Watched::default();
    loop {
        let wanted = watched.borrow_and_update().clone();
        for folder in current.0.difference(&wanted.0) {
            // It may be gone, and its watch with it.
            drop(watcher.unwatch(&here(folder)));
        }
        for folder in wanted.0.difference(&current.0) {
            // What changed after it was read and before it is watched, nobody has seen.
            unseen.try_send(()).ok();
            if let Err(error) = watcher.watch(&here(folder), RecursiveMode::NonRecursive) {
                let folder = folder.display();
                tracing::warn!(%error, %folder, "a folder cannot be watched; use `railwatch reload` or SIGHUP");
            }
        }
        current = wanted;
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            changed = watched.changed() => if changed.is_err() { return } else { continue },
            change = changes.recv() => if change.is_none() { return },
        }
        let still =
            async { while let Ok(Some(())) = tokio::time::timeout(DEBOUNCE, changes.recv()).await {} };
        // A folder that never rests must not keep a change from being seen.
        drop(tokio::time::timeout(PATIENCE, still).await);
        let wish = Reload { by: SmolStr::new_static(WATCHER), to: None, done: None };
        if wishes.send(wish).await.is_err() {
            return;
        }
    }
}

fn here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

/// Configuration, scripts and fixtures matter, and so do folders and the links of mounted configuration, which have no
/// extension. The store in the same folder does not: it changes all the time.
fn matters(path: &Path, config_path: &Path) -> bool {
    let in_fixtures = path.parent().is_some_and(|folder| folder.ends_with("fixtures"));
    let is_link = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".."));
    let by_name = path.extension().is_none_or(|extension| extension == "toml" || extension == "lua");
    by_name || is_link || in_fixtures || path == config_path
}
