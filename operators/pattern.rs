//! The files behind a pattern (`data/Ele*.h5`), and why there are none.

use std::collections::BTreeSet;
use std::path::Path;

/// What matches a pattern, sorted by path (a folder too, which is the trouble of who reads it); a sentence where nothing does.
pub fn matches(pattern: &str) -> Result<Vec<String>, String> {
    let paths = glob::glob(pattern).map_err(|e| format!("`{pattern}` is not a pattern: {}", e.msg))?;
    let mut names = Vec::new();
    for path in paths {
        let path = path.map_err(|e| format!("{}: {}", e.path().display(), e.error()))?;
        let name = path.to_str().ok_or_else(|| format!("the path {} is not UTF-8", path.display()))?;
        names.push(name.to_owned());
    }
    names.sort();
    if names.is_empty() {
        return Err(nothing(pattern));
    }
    Ok(names)
}

/// What matches a pattern and is not hidden; a sentence where nothing is.
pub fn seen(pattern: &str, hidden: &BTreeSet<String>) -> Result<Vec<String>, String> {
    let mut names = matches(pattern)?;
    let all = names.len();
    names.retain(|name| !hidden.contains(name));
    if names.is_empty() { Err(format!("what matches `{pattern}` is still being written ({all})")) } else { Ok(names) }
}

/// Why nothing matches: the first folder of the pattern that is not there, or no such file in it.
fn nothing(pattern: &str) -> String {
    let is_pattern = |path: &Path| path.to_string_lossy().contains(['*', '?', '[']);
    let mut known = Path::new("");
    for folder in Path::new(pattern).ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
        if is_pattern(folder) || folder == Path::new(pattern) {
            break;
        }
        if !folder.is_dir() {
            let is = if folder.exists() { "is a file, not a folder" } else { "is not there" };
            return format!("the folder `{}` {is}", folder.display());
        }
        known = folder;
    }
    if !is_pattern(Path::new(pattern)) {
        return format!("there is no file `{pattern}`");
    }
    let place = if known.as_os_str().is_empty() { "the current folder".into() } else { format!("`{}`", known.display()) };
    format!("no file matches `{pattern}` in {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("b.h5"), "").unwrap();
        std::fs::write(at("a.h5"), "").unwrap();
        assert_eq!(matches(&at("*.h5")).unwrap(), [at("a.h5"), at("b.h5")]);
        let none = |name: &str| matches(&at(name)).unwrap_err().replace(&at(""), "F/");
        assert_eq!(none("*.hdf5"), "no file matches `F/*.hdf5` in `F`".replace("`F`", &format!("`{}`", folder.path().display())));
        assert_eq!(none("d.h5"), "there is no file `F/d.h5`");
        assert_eq!(none("x/*.h5"), "the folder `F/x` is not there");
        assert_eq!(none("a.h5/*.h5"), "the folder `F/a.h5` is a file, not a folder");
        assert!(none("a***").starts_with("`F/a***` is not a pattern: "));
    }
}
