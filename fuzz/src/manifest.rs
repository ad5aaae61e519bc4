//! `package.yaml`: from whoever wrote the package.

use std::path::Path;

use builder::manifest::Manifest;

/// A manifest is read, or refused with a place that can be shown.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    for path in ["package.yaml", "meta/package.yaml"] {
        match Manifest::parse(Path::new(path), text.clone()) {
            Ok(manifest) => {
                for warning in &manifest.warnings {
                    assert!(!warning.to_string().is_empty());
                }
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                let _ = error.hint();
            }
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "name: kv\ntitle: Key-value store\nauthor: us\nversion: 0.1.0\nservices:\n  - services/kv\n",
        "name: shop\ntitle: Shop\nauthor: us\nrequire:\n  - kv >=0.1, <2\nfiles:\n  - source: site/**/*.html\n    \
         destination: /srv\n    mode: \"0644\"\n    override: true\nenv:\n  PORT: 9000\nsize: 64M\n",
        "name: x\ntitle: X\nauthor: \u{e4}\u{1f600}\nservices:\n  - crate: ../a\n    bin: b\n    features: [c, d]\n    \
         role: e\nconfig_set:\n  one:\n    bootcmd: \"e --x 'y z'\"\n    env: {A: b}\nconfig_set_default: one\nunknown: 1\n",
        "name: y\ntitle: Y\nauthor: us\nservices: &a [*a]\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
