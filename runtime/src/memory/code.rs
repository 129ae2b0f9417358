//! Executable memory.

use std::ffi::c_void;
use std::marker::PhantomData;

use memmap2::{Mmap, MmapMut};
use wasmtime_internal_jit_icache_coherence as icache;

/// Where a function starts in the map: a cache line, which is also what constants beside the code are aligned to at most.
const ALIGN: usize = 64;

/// Fills the space between functions with an instruction that traps: `int3`, or on AArch64 `udf #0`.
const TRAP: u8 = if cfg!(target_arch = "x86_64") { 0xcc } else { 0 };

/// The signature of every compiled function: addresses, strides and sizes in `frame`, memory of its own in `scratch`.
type Entry = unsafe extern "C" fn(frame: *const u64, scratch: *mut u8);

/// Executable memory could not be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "{bytes} bytes of executable memory could not be {step}: {source}; the system may be out of memory or forbid code made at run time"
)]
#[non_exhaustive]
pub struct CodeError {
    /// Size of the code.
    pub bytes: usize,
    /// What failed.
    pub step: &'static str,
    /// The system's reason.
    pub source: std::io::Error,
}

/// Machine code in memory of its own, which is freed on drop.
///
/// Functions borrow it, so none outlives it. The map is writable until it is filled and executable from then on, never both.
#[derive(Debug)]
pub(crate) struct Code {
    map: Mmap,
    starts: Box<[usize]>,
}

// Kernels are shared among threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Code>();
    shared::<Function<'static>>();
};

impl Code {
    /// Copies functions, position-independent machine code of the host, to executable memory.
    pub(crate) fn load(functions: &[&[u8]]) -> Result<Code, CodeError> {
        let mut starts = Vec::with_capacity(functions.len());
        let mut bytes = 0usize;
        for function in functions {
            starts.push(bytes);
            // Slices in memory sum to less than `usize::MAX`, the padding included.
            bytes += function.len().next_multiple_of(ALIGN).max(ALIGN);
        }
        let error = |step| move |source| CodeError { bytes, step, source };
        let mut map = MmapMut::map_anon(bytes.max(ALIGN)).map_err(error("mapped"))?;
        map.fill(TRAP);
        for (&start, function) in starts.iter().zip(functions) {
            map[start..start + function.len()].copy_from_slice(function);
        }
        // SAFETY: the range is that of the live map; the pipelines of other threads are flushed below, before any function is handed out.
        let cleared = unsafe { icache::clear_cache(map.as_ptr().cast::<c_void>(), map.len()) };
        cleared.map_err(|source| error("synchronised")(std::io::Error::other(source)))?;
        let map = map.make_exec().map_err(error("made executable"))?;
        icache::pipeline_flush_mt().map_err(|source| error("synchronised")(std::io::Error::other(source)))?;
        Ok(Code { map, starts: starts.into() })
    }

    /// The function at a position of those loaded; `None` past the last.
    pub(crate) fn function(&self, index: usize) -> Option<Function<'_>> {
        let start = *self.starts.get(index)?;
        let entry = self.map[start..].as_ptr();
        // SAFETY: a data pointer and a function pointer are of one size and representation on every target Cranelift has; the pointer
        // is not null. Whether there is a function of this signature behind it is an obligation of `Function::call`.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(entry) };
        Some(Function { entry, code: PhantomData })
    }

    /// Bytes of executable memory, padding included.
    pub(crate) fn bytes(&self) -> usize {
        self.map.len()
    }
}

/// A function of [`Code`], which it borrows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function<'c> {
    entry: Entry,
    code: PhantomData<&'c Code>,
}

impl Function<'_> {
    /// Runs the function.
    ///
    /// # Safety
    /// - the bytes given to [`Code::load`] are a whole function of the host's instruction set with the host's C calling convention and
    ///   the signature `extern "C" fn(*const u64, *mut u8)`, and use only CPU features that were detected;
    /// - `frame` holds every word the function reads, and each address in it, with the strides and sizes beside it, reaches only
    ///   memory that is live, of the right element type, and writable where the function writes;
    /// - `scratch` is aligned as the function was compiled for and has at least the bytes it was compiled to use;
    /// - memory that the function writes is used by no other thread, and by no other reference, while it runs.
    pub(crate) unsafe fn call(self, frame: &[u64], scratch: *mut u8) {
        // SAFETY: the caller's obligations, listed above; the code is alive, since `self` borrows its owner.
        unsafe { (self.entry)(frame.as_ptr(), scratch) }
    }
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;

    /// `scratch[0] = frame[0] + frame[1]`, in 64-bit words.
    #[cfg(all(target_arch = "x86_64", not(windows)))]
    const ADD: &[u8] = &[
        0x48, 0x8b, 0x07, // mov rax, [rdi]
        0x48, 0x03, 0x47, 0x08, // add rax, [rdi + 8]
        0x48, 0x89, 0x06, // mov [rsi], rax
        0xc3, // ret
    ];
    #[cfg(all(target_arch = "x86_64", windows))]
    const ADD: &[u8] = &[
        0x48, 0x8b, 0x01, // mov rax, [rcx]
        0x48, 0x03, 0x41, 0x08, // add rax, [rcx + 8]
        0x48, 0x89, 0x02, // mov [rdx], rax
        0xc3, // ret
    ];
    #[cfg(target_arch = "aarch64")]
    const ADD: &[u8] = &[
        0x02, 0x0c, 0x40, 0xa9, // ldp x2, x3, [x0]
        0x42, 0x00, 0x03, 0x8b, // add x2, x2, x3
        0x22, 0x00, 0x00, 0xf9, // str x2, [x1]
        0xc0, 0x03, 0x5f, 0xd6, // ret
    ];

    #[track_caller]
    fn sum(code: &Code, index: usize, a: u64, b: u64) -> u64 {
        let mut result = [0u64; 8];
        // SAFETY: `ADD` is a function of that signature which reads two words of the frame and writes one of the scratch.
        unsafe { code.function(index).expect("loaded").call(&[a, b], result.as_mut_ptr().cast()) };
        assert_eq!(result[1..], [0; 7]);
        result[0]
    }

    #[test]
    fn loaded_functions_run() {
        let code = Code::load(&[ADD, &[], ADD]).expect("executable memory");
        assert_eq!(sum(&code, 0, 40, 2), 42);
        assert_eq!(sum(&code, 2, u64::MAX, 3), 2);
        assert!(code.function(3).is_none());
        assert!(code.bytes() >= 3 * ALIGN);
    }

    #[test]
    fn nothing_to_load_is_no_error() {
        let code = Code::load(&[]).expect("executable memory");
        assert!(code.function(0).is_none());
    }

    #[test]
    fn threads_share_code() {
        let code = Code::load(&[ADD]).expect("executable memory");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let code = &code;
                scope.spawn(move || (0..1000).for_each(|i| assert_eq!(sum(code, 0, i, thread), i + thread)));
            }
        });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_is_never_writable_and_executable_and_is_freed() {
        // Large, so that what other tests map meanwhile does not land where it is looked for.
        let code = Code::load(&[ADD, &[0; 1 << 20]]).expect("executable memory");
        let middle = code.map.as_ptr() as usize + (1 << 19);
        let permissions = || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
            let parse = |hex| usize::from_str_radix(hex, 16).expect("an address");
            let found = maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (low, high) = range.split_once('-')?;
                (parse(low)..parse(high)).contains(&middle).then(|| rest[..4].to_owned())
            });
            assert!(!maps.lines().any(|line| line.contains(" rwx")));
            found
        };
        assert_eq!(permissions().as_deref(), Some("r-xp"));
        drop(code);
        assert_ne!(permissions().as_deref(), Some("r-xp"));
    }
}
