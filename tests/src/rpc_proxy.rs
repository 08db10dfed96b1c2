//! A node that is not at its best: everything that a [`Chain`] says, with faults that a test sets. See
//! `it/peers/rpc_proxy.py` for what there is.

use std::cell::{Cell, RefCell};

use serde_json::Value;

use crate::chain::Chain;
use crate::script::Script;

/// The running proxy.
#[derive(Debug)]
pub struct RpcProxy {
    script: RefCell<Script>,
    port: u64,
    n_set: Cell<usize>,
}

impl RpcProxy {
    /// Starts it in front of a chain, without faults.
    pub fn start(chain: &Chain) -> Self {
        let script = Script::python("rpc_proxy.py", &[&chain.url()]);
        let port = script.wait("the proxy listens", |said| said["port"].as_u64());
        Self { script: RefCell::new(script), port, n_set: Cell::new(0) }
    }

    /// Where it can be followed.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// These faults hold from now on, and no others.
    #[track_caller]
    pub fn set(&self, faults: &Value) {
        self.script.borrow_mut().say(faults);
        self.n_set.set(self.n_set.get() + 1);
        crate::wait::until("the faults are set", 30, || {
            (self.said("set").len() >= self.n_set.get()).then_some(())
        });
    }

    /// How often a fault has struck.
    pub fn struck(&self, fault: &str) -> usize {
        self.said("struck").iter().filter(|name| *name == fault).count()
    }

    fn said(&self, what: &str) -> Vec<Value> {
        self.script.borrow().said().iter().filter_map(|said| said.get(what).cloned()).collect()
    }
}
