//! The checked-in protobuf code is what its `.proto` files say.

use std::path::Path;

const FILES: [(&str, &str); 2] = [
    ("prometheus.rs", "rw1.rs"),
    ("io.prometheus.write.v2.rs", "rw2.rs"),
];

#[test]
fn generated_protobuf_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = root.join("proto");
    let descriptors = protox::compile(
        [
            "prometheus/remote.proto",
            "io/prometheus/write/v2/types.proto",
        ],
        [proto.as_path()],
    )
    .expect("the schemas compile");
    let out = tempfile::tempdir().expect("a temporary folder");
    prost_build::Config::new()
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("the code generates");
    for (generated, checked_in) in FILES {
        let fresh = std::fs::read_to_string(out.path().join(generated)).expect("generated file");
        let path = root.join("src/wire/pb").join(checked_in);
        if std::env::var_os("SLUICEGATE_BLESS").is_some() {
            std::fs::write(&path, &fresh).expect("writable sources");
        }
        let current = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            current == fresh,
            "{checked_in} is stale: run again with SLUICEGATE_BLESS=1"
        );
    }
}
