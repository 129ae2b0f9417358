//! Executable memory.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module, ModuleError, default_libcall_names};

/// Where a function starts: a cache line, which is also what constants beside the code are aligned to at most.
const ALIGN: usize = 64;

/// The signature of every compiled function: addresses, strides and sizes in `frame`, memory of its own in `scratch`.
type Entry = unsafe extern "C" fn(frame: *const u64, scratch: *mut u8);

/// Executable memory could not be had.
#[derive(thiserror::Error)]
#[error(
    "{bytes} bytes of executable memory could not be {step}: {source}; the system may be out of memory or forbid code made at run time"
)]
#[non_exhaustive]
pub struct CodeError {
    /// Size of the code.
    pub bytes: usize,
    /// The step that failed.
    pub step: &'static str,
    /// The system's reason.
    pub source: std::io::Error,
}

rhumb_ir::debug_as_display!(CodeError);

/// Machine code in memory of its own, which is freed on drop.
///
/// Functions borrow it, so none outlives it. Cranelift's JIT module owns the memory, writable until it is filled and executable from then
/// on, never both.
pub(crate) struct Code {
    /// There until it is dropped. A module can't be shared among threads, as its functions can.
    module: Mutex<Option<JITModule>>,
    entries: Vec<Entry>,
    bytes: usize,
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
        // Slices in memory sum to less than `usize::MAX`, the padding included.
        let bytes = functions.iter().map(|function| function.len().next_multiple_of(ALIGN).max(ALIGN)).sum();
        let error = |step| move |error| CodeError { bytes, step, source: reason(error) };
        let mut module = JITModule::new(JITBuilder::new(default_libcall_names()).map_err(error("allocated"))?);
        let signature = module.make_signature();
        let mut define = |function: &&[u8]| {
            let id = module.declare_anonymous_function(&signature).map_err(error("filled"))?;
            let filled = module.define_function_bytes(id, ALIGN as u64, function, &[]);
            filled.map(|()| id).map_err(error("filled"))
        };
        let ids: Result<Vec<_>, CodeError> = functions.iter().map(&mut define).collect();
        let finished = ids.and_then(|ids| {
            module.finalize_definitions().map_err(error("made executable"))?;
            Ok(ids)
        });
        let entry = |id| {
            let entry = module.get_finalized_function(id);
            // SAFETY: a data pointer and a function pointer are of one size and representation on every target Cranelift has; the pointer
            // is not null. Whether there is a function of this signature behind it is an obligation of `Function::call`.
            unsafe { std::mem::transmute::<*const u8, Entry>(entry) }
        };
        let entries = finished.map(|ids| ids.into_iter().map(entry).collect());
        // From here on the memory is freed, whatever came of it.
        let mut code = Code { module: Mutex::new(Some(module)), entries: Vec::new(), bytes };
        code.entries = entries?;
        Ok(code)
    }

    /// The function at a position of those loaded; `None` past the last.
    pub(crate) fn function(&self, index: usize) -> Option<Function<'_>> {
        self.entries.get(index).map(|&entry| Function { entry, code: PhantomData })
    }

    /// Bytes of executable memory, padding included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(module) = module {
            // SAFETY: a `Function` borrows its `Code`, so none is left and none runs.
            unsafe { module.free_memory() }
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} functions, {} bytes)", self.entries.len(), self.bytes)
    }
}

/// Why the module refused.
fn reason(error: ModuleError) -> io::Error {
    match error {
        ModuleError::Allocation { err, .. } => err,
        error => io::Error::other(error.to_string()),
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
        let code = Code::load(&[ADD, ADD, ADD]).expect("executable memory");
        assert_eq!(sum(&code, 0, 40, 2), 42);
        assert_eq!(sum(&code, 2, u64::MAX, 3), 2);
        assert!(code.function(3).is_none());
        assert!(code.bytes() >= 3 * ALIGN);
    }

    /// Much less than one mapping is left of each.
    #[test]
    #[cfg(target_os = "linux")]
    fn code_leaves_no_mappings() {
        let mappings = || std::fs::read_to_string("/proc/self/maps").expect("procfs").lines().count();
        let before = mappings();
        for _ in 0..1000 {
            let code = Code::load(&[ADD, ADD]).expect("executable memory");
            assert_eq!(sum(&code, 1, 2, 3), 5);
        }
        let after = mappings();
        assert!(after < before + 100, "{before} mappings, {after} after 1,000 pieces of code");
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
        let middle = code.entries[1] as usize + (1 << 19);
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
