//! Time of each stage of a sample's way: `cargo bench --bench stages`.
//!
//! Criterion prints the time for a request of 2,000 samples and, as throughput, samples a second:
//! 10 Melem/s are 100 ns a sample. `benches/stages.sh` prints nanoseconds a sample in one table.

mod stage;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use stage::{Rig, SAMPLES, STAGES};

/// As in the program: it decides what memory costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 41,000 series: more than a processor's caches hold, as in a process at work.
const NODES: u32 = 50;

fn stages(criterion: &mut Criterion) {
    let mut rig = Rig::new(NODES);
    let mut group = criterion.benchmark_group("stage");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for (stage, name) in STAGES {
        group.bench_function(name, |bencher| {
            // What comes before and after a stage is done for each request, and not measured.
            bencher.iter_custom(|requests| {
                let mut took = Duration::ZERO;
                for _ in 0..requests {
                    let input = rig.prepare(stage);
                    let began = Instant::now();
                    let output = rig.run(stage, input);
                    took += began.elapsed();
                    rig.tidy(stage, output);
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
