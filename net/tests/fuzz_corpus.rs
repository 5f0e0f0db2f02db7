//! Replays the corpus of the fuzz targets (`fuzz/corpus`), and some noise, on the stable toolchain.

use std::path::Path;

use ix_net::testing::{FuzzMode, Random, fuzz};

const TARGETS: [(&str, FuzzMode); 3] = [
    ("frames", FuzzMode::Frames),
    ("calls", FuzzMode::Calls),
    ("segments", FuzzMode::Segments),
];

#[test]
fn the_corpus_holds() {
    for (target, mode) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let folder = folder.join(target);
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
        let mut count = 0;
        for entry in entries {
            let path = entry.expect("a folder entry").path();
            println!("{}", path.display());
            fuzz(mode, &std::fs::read(path).expect("a readable input"));
            count += 1;
        }
        assert_ne!(count, 0, "no inputs in {}", folder.display());
    }
}

#[test]
fn noise_holds() {
    for (target, mode) in TARGETS {
        for seed in 0..300 {
            println!("{target}, seed {seed}");
            let random = &mut Random::new(seed);
            let len = 1 + random.below(3000);
            let noise: Vec<u8> = (0..len).map(|_| random.word() as u8).collect();
            fuzz(mode, &noise);
        }
    }
}
