//! The house: which folder may import which, and who may touch SQL, HTTP servers and the environment.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. A folder may import those before it; the last groups hold siblings that do not
/// know each other, but for the wiring.
const FLOORS: [&[&str]; 14] = [
    &["base"],
    &["policy"],
    &["budget"],
    &["provider"],
    &["vault"],
    &["subkey"],
    &["log"],
    &["store"],
    &["service"],
    &["http"],
    &["proxy", "admin", "console", "sandbox"],
    &["config"],
    &["app"],
    &["cli"],
];

fn floor_of(folder: &str) -> Option<usize> {
    FLOORS.iter().position(|folders| folders.contains(&folder))
}

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The folder a file belongs to, and its lines without comments.
fn read() -> Vec<(String, PathBuf, Vec<String>)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let Some(folder) = inside.parent().and_then(|parent| parent.iter().next()) else { continue };
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned()).collect();
        files.push((folder.to_str().unwrap().to_owned(), path.clone(), lines));
    }
    assert!(files.len() > 20, "the test reads the sources");
    files
}

#[test]
fn a_folder_imports_only_folders_below_it() {
    let mut wrong = vec![];
    for (folder, path, lines) in read() {
        let floor = floor_of(&folder).unwrap_or_else(|| panic!("{folder} has no floor: add it to FLOORS"));
        for (number, line) in lines.iter().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let target: String =
                    line[at + 7..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let Some(other) = floor_of(&target) else { continue };
                if other > floor || (other == floor && target != folder) {
                    wrong.push(format!("{}:{} imports {target}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that climb the house:\n{}", wrong.join("\n"));
}

#[test]
fn each_outside_thing_has_its_floor() {
    let rules: [(&str, &[&str]); 10] = [
        ("sqlx", &["store"]),
        ("axum", &["http", "proxy", "admin", "console", "sandbox"]),
        ("env::var", &["config"]),
        ("Utc::now", &["base"]),
        ("Clock::system", &["app", "cli"]),
        ("SystemRandom", &["base"]),
        // Whatever the server connects to is dialled by http/client; the command line connects to the server.
        ("hyper_rustls", &["http", "cli"]),
        ("HttpConnector", &["cli"]),
        ("TcpStream::connect", &["http"]),
        ("lookup_host", &["http"]),
    ];
    let mut wrong = vec![];
    for (folder, path, lines) in read() {
        for (number, line) in lines.iter().enumerate() {
            for (word, folders) in rules {
                if line.contains(word) && !folders.contains(&folder.as_str()) {
                    wrong.push(format!("{}:{} uses {word}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "things used outside their floor:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_has_outgrown_one_reason_to_change() {
    let large: Vec<String> = read()
        .into_iter()
        .filter(|(_, _, lines)| lines.len() > 500)
        .map(|(_, path, lines)| format!("{} has {} lines", path.display(), lines.len()))
        .collect();
    assert!(large.is_empty(), "split these:\n{}", large.join("\n"));
}
