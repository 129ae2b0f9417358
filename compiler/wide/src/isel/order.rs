//! The order of blocks.

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Block, Function};
use cranelift_codegen::loop_analysis::LoopAnalysis;

/// Reverse postorder in which the blocks of a loop stand together: exits are visited first, so they come last.
pub(super) fn block_order(func: &Function, entry: Block, loops: &LoopAnalysis) -> Vec<Block> {
    let mut seen: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut order = Vec::new();
    let successors = |block: Block| {
        let mut succs: Vec<Block> = func.block_successors(block).collect();
        succs.reverse();
        // Popped from the end: the shallowest loop first.
        succs.sort_by_key(|&s| std::cmp::Reverse(loops.loop_level(s)));
        succs
    };
    seen[entry] = true;
    let mut stack = vec![(entry, successors(entry))];
    while let Some((block, succs)) = stack.last_mut() {
        match succs.pop() {
            Some(succ) if !seen[succ] => {
                seen[succ] = true;
                stack.push((succ, successors(succ)));
            }
            Some(_) => {}
            None => {
                order.push(*block);
                stack.pop();
            }
        }
    }
    order.reverse();
    order
}
