//! Prometheus Alertmanager, as Debian packages it, with one receiver.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::call::call;
use crate::child::Peer;
use crate::daemon::{free_port, peer_file};
use crate::wait::until;

/// The server.
#[derive(Debug)]
pub struct Alertmanager {
    _peer: Peer,
    _folder: TempDir,
    address: String,
}

impl Alertmanager {
    /// Starts it; whatever it is told goes to `receiver`, at once and grouped by incident.
    pub fn start(receiver: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let config = folder.path().join("alertmanager.yml");
        fs::write(
            &config,
            format!(
                "route: {{ receiver: people, group_by: [incident], group_wait: 0s, group_interval: 1s }}\n\
                 receivers: [{{ name: people, webhook_configs: [{{ url: '{receiver}', send_resolved: true }}] }}]\n"
            ),
        )
        .unwrap();
        let program = peer_file("alertmanager/usr/bin/prometheus-alertmanager");
        let share = peer_file("alertmanager/usr/share");
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        // Debian's build reads its templates from /usr/share: it gets a view of the file system in which they are there.
        let mut command = Command::new("unshare");
        let command = command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /usr/share && exec \"$@\"")
            .args([share, program])
            .arg(flag("config.file", config.to_str().unwrap()))
            .arg(flag("storage.path", folder.path().to_str().unwrap()))
            .arg(flag("web.listen-address", &address))
            .arg(flag("cluster.listen-address", ""));
        let manager = Self { _peer: Peer::start(command), _folder: folder, address };
        until("Alertmanager is ready", 60, || {
            let answer = call(&manager.address, "GET", "/-/ready", &[], b"").ok()?;
            (answer.status == 200).then_some(())
        });
        manager
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The alerts that are open there.
    pub fn alerts(&self) -> Vec<Value> {
        let answer = call(&self.address, "GET", "/api/v2/alerts", &[], b"").unwrap();
        serde_json::from_str(&answer.body).unwrap()
    }
}
