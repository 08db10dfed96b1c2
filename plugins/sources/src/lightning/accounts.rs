//! litd's accounts: which of the agents that share one LND has paid. LND itself does not record it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use railwatch_model::{Identity, Payment, SmolStr};
use serde::Deserialize;
use smol_str::format_smolstr;

use super::payment_hash;
use crate::scalar::{Items, Nested, Text, short};

/// Payments whose account is remembered; beyond it all are asked for again.
const HASHES_MAX: usize = 100_000;

/// The answer to `GET /v1/accounts`. Its amounts are reservations, with the limit of the fee: what was spent is LND's word.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List<'a> {
    #[serde(borrow)]
    accounts: Vec<Nested<Account<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Account<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    label: Text<'a>,
    #[serde(borrow)]
    payments: Items<Nested<AccountPayment<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AccountPayment<'a> {
    /// Base64 over REST, as for all bytes there; hexadecimal in litcli's output.
    #[serde(borrow)]
    hash: Text<'a>,
}

/// The accounts of payments, by payment hash.
#[derive(Debug, Default)]
pub(super) struct Accounts(HashMap<SmolStr, Vec<Identity>>);

impl Accounts {
    /// True if all of these have been asked for.
    pub(super) fn know(&self, payments: &[Payment]) -> bool {
        payments.iter().all(|payment| self.0.contains_key(&payment.id))
    }

    /// Takes litd's list in; those of `payments` that are not in it were paid without an account.
    pub(super) fn learn(&mut self, list: &[u8], payments: &[Payment]) -> Result<(), serde_json::Error> {
        let list: List<'_> = serde_json::from_slice(list)?;
        if self.0.len() > HASHES_MAX {
            self.0.clear();
        }
        for Nested(account) in &list.accounts {
            let label = account.label.get().map(|label| format_smolstr!("label:{}", short(label)));
            let names = label.into_iter().chain(account.id.get().map(short));
            let names: Vec<Identity> = names.map(|name| Identity::new("litd.account", name)).collect();
            for Nested(payment) in &account.payments.0 {
                if let Some(hash) = hash(payment.hash.as_str()) {
                    self.0.insert(hash, names.clone());
                }
            }
        }
        for payment in payments {
            self.0.entry(payment.id.clone()).or_default();
        }
        Ok(())
    }

    /// Puts the account before the node.
    pub(super) fn name(&self, payments: &mut [Payment]) {
        for payment in payments {
            let names = self.0.get(&payment.id).cloned().unwrap_or_default();
            payment.spender.splice(0..0, names);
        }
    }
}

fn hash(text: &str) -> Option<SmolStr> {
    payment_hash(text).or_else(|| {
        let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == 32)?;
        Some(hex::encode(bytes).into())
    })
}
