//! What a secret's type keeps it from, what a panic may say, and a search for each in everything that comes out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod journey;
mod misplaced;
mod places;
mod search;
mod steps;
mod transit;
mod witness;

use bitting::base::Secret;
use bitting::vault::{Kek, Keyring, ProviderKey, Root};
use std::process::Command;

/// Does not compile if the type has the trait: then there are two ways to read the underscore.
macro_rules! lacks {
    ($($type:ty: $($trait:path),+;)+) => {$($(
        const _: fn() = || {
            trait Either<Which> {
                fn read() {}
            }
            struct Has;
            impl<T: ?Sized> Either<()> for T {}
            impl<T: ?Sized + $trait> Either<Has> for T {}
            let _ = <$type as Either<_>>::read;
        };
    )+)+};
}

lacks! {
    Secret<String>: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize;
    Secret<[u8; 32]>: std::fmt::Debug, std::fmt::Display, Clone, Copy, serde::Serialize;
    ProviderKey: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize;
    Kek: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize;
    Root: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize;
    Keyring: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize;
}

const CANARY: &str = "panic-canary-0b6f2d";

/// Run by the test below in a process of its own.
#[test]
#[ignore = "panics on purpose"]
fn panics_over_a_secret() {
    bitting::app::harden().unwrap();
    let key = format!("sk-{CANARY}");
    panic!("the key {key} is wrong");
}

#[test]
fn p1_in_never_out_of_a_panic_which_says_where_and_nothing_else() {
    let this = std::env::current_exe().unwrap();
    let run = Command::new(this)
        .args(["--ignored", "--exact", "secrets::panics_over_a_secret", "--nocapture"])
        .output()
        .unwrap();
    let said = [run.stdout, run.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!run.status.success() && said.contains("panics_over_a_secret"), "it ran: {said}");
    assert!(!said.contains(CANARY), "{said}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_leaves_no_core_dump_and_opens_its_memory_to_nobody() {
    let installation = crate::support::process::Installation::sqlite().await;
    let server = installation.serve().await;
    let process = format!("/proc/{}", server.child.id().unwrap());
    let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // The files of a process that may not be dumped belong to root, whoever runs it.
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    assert!(status.contains("Name:\tbitting"), "{status}");
    let as_other =
        Command::new("runuser").args(["-u", "nobody", "--", "cat", &format!("{process}/mem")]).output();
    if let Ok(tried) = as_other {
        assert!(!tried.status.success(), "another user reads its memory");
    }
}
