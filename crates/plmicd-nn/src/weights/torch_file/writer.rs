//! Writing what `torch.load` reads: Transformers 4.5, which the published code is pinned to, knows no other format.

use std::io::{self, Write};

use camino::Utf8Path;
use tch::{Device, Kind, Tensor};

use super::zip::ArchiveWriter;
use crate::NnError;

/// The archive's top folder, as `torch.save` names it after a file called `archive`.
const ROOT: &str = "archive";

/// Writes fp32 tensors as `torch.save` writes a dictionary of them: the same bytes for the same values, complete or
/// not at all. PyTorch from 1.6 on reads it, with `weights_only=True` too.
pub fn write_torch_file(path: &Utf8Path, tensors: &[(&str, &Tensor)]) -> Result<(), NnError> {
    let partial = path.with_extension("bin.partial");
    let write = || -> Result<(), NnError> {
        let file = io::BufWriter::new(fs_err::File::create(&partial)?);
        let mut archive = ArchiveWriter::new(file);
        archive.add(&format!("{ROOT}/data.pkl"), &pickle(tensors))?;
        archive.add(&format!("{ROOT}/byteorder"), b"little")?;
        for (at, (_, tensor)) in tensors.iter().enumerate() {
            archive.add(&format!("{ROOT}/data/{at}"), &bytes(tensor)?)?;
        }
        archive.add(&format!("{ROOT}/version"), b"3\n")?;
        let mut file = archive.finish()?;
        file.flush()?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(fs_err::rename(&partial, path)?)
    };
    let written = write();
    if written.is_err() {
        let _ = fs_err::remove_file(&partial);
    }
    written
}

/// The values of a tensor, row by row, little-endian.
fn bytes(tensor: &Tensor) -> Result<Vec<u8>, NnError> {
    let tensor = tensor.detach().f_to_device(Device::Cpu)?.to_kind(Kind::Float).contiguous();
    let count = tensor.numel();
    let mut values = vec![0f32; count];
    tensor.f_copy_data(&mut values, count)?;
    Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// An `OrderedDict` from names to tensors in pickle protocol 2; tensor `i` is the whole of storage `i`.
fn pickle(tensors: &[(&str, &Tensor)]) -> Vec<u8> {
    const EMPTY_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut out = b"\x80\x02".to_vec();
    out.extend(EMPTY_DICT);
    out.push(b'(');
    for (at, (name, tensor)) in tensors.iter().enumerate() {
        string(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        string(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        string(&mut out, &at.to_string());
        string(&mut out, "cpu");
        int(&mut out, tensor.numel() as i64);
        out.extend(b"tQ");
        int(&mut out, 0);
        let size = tensor.size();
        tuple(&mut out, &size);
        let strides: Vec<i64> =
            (0..size.len()).map(|axis| size[axis + 1..].iter().map(|&n| n.max(1)).product()).collect();
        tuple(&mut out, &strides);
        // requires_grad = False, no backward hooks.
        out.push(0x89);
        out.extend(EMPTY_DICT);
        out.extend(b"tR");
    }
    out.extend(b"u.");
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn int(out: &mut Vec<u8>, number: i64) {
    match i32::try_from(number) {
        Ok(short) => {
            out.push(b'J');
            out.extend(short.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend(number.to_le_bytes());
        }
    }
}

fn tuple(out: &mut Vec<u8>, numbers: &[i64]) {
    out.push(b'(');
    numbers.iter().for_each(|&number| int(out, number));
    out.push(b't');
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;
    use crate::read_torch_file;

    #[test]
    fn what_is_written_is_read_and_the_bytes_are_fixed() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("pytorch_model.bin")).unwrap();
        let matrix = Tensor::from_slice(&[1.5f32, -2.0, 3.25, 0.0, 5.0, 6.0]).view([2, 3]);
        let column = matrix.transpose(0, 1).narrow(0, 1, 2);
        let scalar = Tensor::from(2.5f32);
        let written: [(&str, &Tensor); 3] = [("b.weight", &column), ("a", &matrix), ("s", &scalar)];
        write_torch_file(&path, &written).unwrap();
        let first = fs_err::read(&path).unwrap();
        write_torch_file(&path, &written).unwrap();
        assert_eq!(first, fs_err::read(&path).unwrap());
        let read = read_torch_file(&path).unwrap();
        assert_eq!(read.len(), 3);
        for (name, tensor) in written {
            assert_eq!(read[name].size(), tensor.size(), "{name}");
            assert!(read[name].equal(tensor), "{name}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("absent/pytorch_model.bin")).unwrap();
        let tensor = Tensor::from(1.0f32);
        assert!(write_torch_file(&path, &[("a", &tensor)]).is_err());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
