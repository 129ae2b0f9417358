//! Which pages are free, and how many sequences have each of the others.

use crate::memory::{OutOfMemory, reserve};

/// What is known of a page.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    /// Sequences that have it; none of a free page.
    owners: u32,
}

/// The pages of the pools by number.
#[derive(Debug)]
pub(super) struct Pages {
    pages: Vec<Page>,
    /// The next to be taken last.
    free: Vec<u32>,
}

impl Pages {
    /// All free; those of low numbers are taken first.
    pub(super) fn new(count: u32) -> Result<Pages, OutOfMemory> {
        let (mut pages, mut free) = (Vec::new(), Vec::new());
        reserve(&mut pages, count as usize)?;
        reserve(&mut free, count as usize)?;
        pages.resize(count as usize, Page::default());
        free.extend((0..count).rev());
        Ok(Pages { pages, free })
    }

    pub(super) fn count(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// A free page for one sequence; none if none is free.
    pub(super) fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.pages[page as usize].owners = 1;
        Some(page)
    }

    /// Gives a page to one more sequence.
    pub(super) fn share(&mut self, page: u32) {
        self.pages[page as usize].owners += 1;
    }

    /// Takes a page from a sequence. What no sequence has is free.
    pub(super) fn release(&mut self, page: u32) {
        let owners = &mut self.pages[page as usize].owners;
        *owners -= 1;
        if *owners == 0 {
            self.free.push(page);
        }
    }

    /// Whether several sequences have a page, so that none may write it.
    pub(super) fn is_shared(&self, page: u32) -> bool {
        self.pages[page as usize].owners > 1
    }

    #[cfg(test)]
    pub(super) fn owners(&self) -> impl Iterator<Item = u32> {
        self.pages.iter().map(|page| page.owners)
    }
}
