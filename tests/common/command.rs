//! The `rhumb` command, in a folder of its own.
#![allow(dead_code, reason = "no test uses all of it")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use safetensors::{Dtype, SafeTensors};

/// A folder of a test's own, where commands run, so that no message holds a path of the machine.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", env!("CARGO_CRATE_NAME")));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), contents).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).expect("a file")
    }

    /// Runs the command; words of `line` are its arguments, those in single quotes one.
    pub(crate) fn rhumb(&self, line: &str, stdin: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rhumb"))
            .args(words(line))
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        // A command that does not read its input has closed it.
        let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
        child.wait_with_output().expect("ends")
    }

    /// What a command that must succeed prints.
    pub(crate) fn prints(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.rhumb(line, "");
        let stderr = String::from_utf8(stderr).expect("UTF-8");
        assert!(status.success() && stderr.is_empty(), "rhumb {line}: {status}\n{stderr}");
        String::from_utf8(stdout).expect("UTF-8")
    }

    /// The command, its exit code and what it says, for commands that must fail.
    pub(crate) fn fails(&self, line: &str, stdin: &str) -> String {
        let Output { status, stdout, stderr } = self.rhumb(line, stdin);
        assert!(stdout.is_empty(), "rhumb {line} printed {}", String::from_utf8_lossy(&stdout));
        let stderr = String::from_utf8(stderr).expect("UTF-8");
        assert!(!stderr.contains('\u{1b}'), "colour codes where there is no terminal: {stderr:?}");
        let code = status.code().expect("no signal");
        format!("$ rhumb {line}\n{}\n[{code}]\n", stderr.trim_end())
    }
}

/// The words of a line; those in single quotes are one.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// The shape and the numbers of a tensor of a safetensors file.
pub(crate) fn floats(file: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let file = SafeTensors::deserialize(file).expect("a file");
    let tensor = file.tensor(name).expect("a tensor");
    assert_eq!(tensor.dtype(), Dtype::F32);
    let numbers = tensor.data().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().expect("four bytes")));
    (tensor.shape().to_vec(), numbers.collect())
}
