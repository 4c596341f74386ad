//! Instructions of each stage of a sample's way, counted by Valgrind: `benches/instructions.sh`.
//!
//! The number is the same on a busy machine and on an idle one, so that a change of a percent shows. It is
//! no time: an instruction that waits for memory counts as one that does not.

#[allow(dead_code, reason = "some of it is the other bench's")]
#[path = "../stage/mod.rs"]
mod stage;

use gungraun::{library_benchmark, library_benchmark_group, main};

use stage::{Input, Output, Rig, Stage};

/// As in the program: it decides what memory costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 4,100 series: how many there are costs time in caches, and hardly an instruction. The preparation is
/// slow under Valgrind.
const NODES: u32 = 5;

/// A stage with all that comes before it done.
struct Ready {
    rig: Rig,
    stage: Stage,
    input: Input,
}

fn ready(stage: Stage) -> Box<Ready> {
    let mut rig = Rig::new(NODES);
    let input = rig.prepare(stage);
    Box::new(Ready { rig, stage, input })
}

#[library_benchmark(setup = ready)]
#[bench::decompress_1_0(Stage::DecompressV1)]
#[bench::decompress_2_0(Stage::DecompressV2)]
#[bench::walk_1_0(Stage::WalkV1)]
#[bench::walk_1_0_unsorted(Stage::WalkV1Unsorted)]
#[bench::walk_2_0(Stage::WalkV2)]
#[bench::identity(Stage::Identity)]
#[bench::intern(Stage::Intern)]
#[bench::append(Stage::Append)]
#[bench::disk_record(Stage::Disk)]
#[bench::take(Stage::Take)]
#[bench::cut(Stage::Cut)]
#[bench::encode_1_0(Stage::EncodeV1)]
#[bench::encode_2_0(Stage::EncodeV2)]
#[bench::compress_1_0(Stage::CompressV1)]
#[bench::compress_2_0(Stage::CompressV2)]
#[bench::compress_1_0_zstd(Stage::CompressZstd)]
#[bench::journal_entries(Stage::Journal)]
#[bench::settle(Stage::Settle)]
fn stage_of_a_request(ready: Box<Ready>) -> (Output, Rig) {
    let Ready {
        mut rig,
        stage,
        input,
    } = *ready;
    // What comes back is dropped outside, and not counted.
    (rig.run(stage, input), rig)
}

library_benchmark_group!(
    name = stages;
    benchmarks = stage_of_a_request
);

main!(library_benchmark_groups = stages);
