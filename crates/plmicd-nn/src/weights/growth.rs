use std::collections::BTreeMap;

use camino::Utf8Path;
use tch::{Kind, Tensor};

use super::matching::published_name;
use crate::{ModelType, NnError};

/// Rows for the pieces by which a vocabulary was extended.
#[derive(Clone, Copy, Debug)]
pub struct Growth<'a> {
    /// Number of ids before.
    pub base_size: usize,
    /// For each new id in order, the old ids that stood for its text.
    pub pieces: &'a [Vec<i32>],
}

impl Growth<'_> {
    /// Gives the tensors that have a row for each id (word embeddings, a language-model head's bias) rows for the new
    /// ids: the mean of the rows of the old ones. Rows beyond the old vocabulary, by which some checkpoints are padded,
    /// are given up.
    ///
    /// # Errors
    /// Fewer rows than old ids: the file belongs to another vocabulary.
    pub(crate) fn apply(
        self,
        tensors: &mut BTreeMap<String, Tensor>,
        model_type: ModelType,
        file: &Utf8Path,
    ) -> Result<(), NnError> {
        let by_id = [
            format!("{model_type}.embeddings.word_embeddings.weight"),
            "cls.predictions.bias".to_owned(),
            "lm_head.bias".to_owned(),
        ];
        for (name, tensor) in tensors.iter_mut() {
            if by_id.contains(&published_name(name, model_type)) {
                *tensor =
                    self.grown(tensor).map_err(|message| NnError::file(file, format!("{name} {message}")))?;
            }
        }
        Ok(())
    }

    /// Rows [base_size + pieces, ...] of a tensor [rows >= base_size, ...].
    fn grown(self, tensor: &Tensor) -> Result<Tensor, String> {
        let rows = tensor.size().first().copied().unwrap_or(0);
        let base = self.base_size as i64;
        if rows < base {
            return Err(format!("has {rows} rows, but the vocabulary that was extended has {base} ids"));
        }
        let old = tensor.narrow(0, 0, base);
        let new: Vec<Tensor> = self
            .pieces
            .iter()
            .map(|ids| {
                let ids: Vec<i64> = ids.iter().copied().map(i64::from).collect();
                let rows = old.index_select(0, &Tensor::from_slice(&ids));
                // Summed in double precision, so that the order of the pieces does not matter.
                rows.to_kind(Kind::Double).mean_dim(0, false, Kind::Double).to_kind(tensor.kind())
            })
            .collect();
        if new.is_empty() {
            return Ok(old);
        }
        Ok(Tensor::cat(&[old, Tensor::stack(&new, 0)], 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_row_is_the_mean_of_its_pieces() {
        let weight = || Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0, 9.0]).view([4, 2]);
        let bias = || Tensor::from_slice(&[1.0f32, 2.0, 6.0, 9.0]);
        let growth = Growth { base_size: 3, pieces: &[vec![0, 2], vec![1]] };
        for (name, bias_name) in [
            ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"),
            ("embeddings.word_embeddings.weight", "x"),
        ] {
            let mut tensors = BTreeMap::from([(name.to_owned(), weight()), (bias_name.to_owned(), bias())]);
            growth.apply(&mut tensors, ModelType::Bert, Utf8Path::new("f")).unwrap();
            let wanted =
                Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 3.0, 4.0, 3.0, 4.0]).view([5, 2]);
            assert!(tensors[name].equal(&wanted), "{}", tensors[name]);
            let rows =
                if bias_name == "x" { bias() } else { Tensor::from_slice(&[1.0f32, 2.0, 6.0, 3.5, 2.0]) };
            assert!(tensors[bias_name].equal(&rows));
        }
        let small = Growth { base_size: 5, pieces: &[vec![0]] };
        let mut tensors = BTreeMap::from([("embeddings.word_embeddings.weight".to_owned(), weight())]);
        let error = small.apply(&mut tensors, ModelType::Bert, Utf8Path::new("f")).unwrap_err().to_string();
        assert!(error.contains("has 4 rows") && error.contains("5 ids"), "{error}");
    }
}
