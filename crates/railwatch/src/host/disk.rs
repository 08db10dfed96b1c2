//! The disk of the store: people hear of it while there is still room to write the alert down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use railwatch_model::{ConditionKind, Severity, Subject};
use tokio_util::sync::CancellationToken;

use crate::host::health::Health;
use crate::host::metrics::Metrics;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Free bytes below which a disk is nearly full: some hours of a busy fleet.
const FREE_MIN: u64 = 1 << 30;
/// Free bytes at which it no longer is; more, so that the alert does not come and go.
const FREE_AGAIN: u64 = 3 << 29;

/// Looks at the disk until cancelled.
pub(crate) async fn watch(path: PathBuf, health: Health, metrics: Arc<Metrics>, cancel: CancellationToken) {
    let mut is_low = false;
    loop {
        let folder = path.clone();
        let looked = tokio::task::spawn_blocking(move || free(&folder));
        let free = match looked.await {
            Ok(Ok(free)) => free,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the disk's free space is not known");
                return;
            }
            Err(_) => return,
        };
        metrics.store_free_bytes.set(i64::try_from(free).unwrap_or(i64::MAX));
        is_low = is_nearly_full(free, is_low);
        if is_low {
            let mib = free >> 20;
            let summary = format!(
                "the disk of the store has {mib} MiB left; when it is full, payments wait and alerts come late: make room, or \
                 lower store.retain"
            );
            let kind = ConditionKind::StoreNearFull;
            health.hold(Subject::Railwatch, kind, "", severity(free), summary);
        } else {
            health.over(&Subject::Railwatch, ConditionKind::StoreNearFull, "");
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn is_nearly_full(free: u64, was: bool) -> bool {
    free < if was { FREE_AGAIN } else { FREE_MIN }
}

fn severity(free: u64) -> Severity {
    if free < FREE_MIN / 8 { Severity::Critical } else { Severity::High }
}

/// Bytes that the store's folder may still take.
#[cfg(unix)]
fn free(store: &Path) -> std::io::Result<u64> {
    let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty());
    let disk = rustix::fs::statvfs(folder.unwrap_or(Path::new(".")))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> std::io::Result<u64> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_nearly_full_until_there_is_clearly_more_room() {
        let mut was = false;
        for (mib, expected) in
            [(2_000, false), (1_100, false), (1_000, true), (1_200, true), (1_600, false), (1_100, false)]
        {
            was = is_nearly_full(mib << 20, was);
            assert_eq!(was, expected, "{mib} MiB");
        }
        assert_eq!((severity(100 << 20), severity(900 << 20)), (Severity::Critical, Severity::High));
    }

    #[cfg(unix)]
    #[test]
    fn the_free_space_of_a_folder_is_known() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(&folder.path().join("railwatch.db")).unwrap() > 0);
        assert!(free(Path::new("railwatch.db")).unwrap() > 0);
        assert!(free(Path::new("/nowhere/at/all/railwatch.db")).is_err());
    }
}
