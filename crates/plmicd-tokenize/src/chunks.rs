//! Cutting a text where its tokens cannot meet.
//!
//! BERT's and RoBERTa's tokenizers, and those of whole words, treat each word by itself: the ids of a note are the ids of its pieces in a row,
//! if it is cut at the right places. Notes repeat their words, so most pieces have been encoded before.

use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// Where a text may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutting {
    /// BERT: at blanks, tabs and line ends, which belong to no piece. Other white space stays inside a piece: some of it
    /// is removed as a control character before words are told apart.
    Blanks,
    /// GPT-2 and RoBERTa: before a single blank between two other characters. The blank begins the next piece, as in
    /// the expression ` ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+`.
    BeforeBlank,
    /// Whole words: at white space, which belongs to no piece.
    WhiteSpace,
}

impl Cutting {
    /// How texts may be cut for this tokenizer; `None` if it is not known to treat words by themselves.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        // A token that is matched in the text before it is split must not reach over a cut.
        let apart = tokenizer
            .get_added_tokens_decoder()
            .values()
            .all(|token| !token.content.contains(char::is_whitespace) && !token.rstrip && !token.single_word);
        let left = tokenizer.get_added_tokens_decoder().values().any(|token| token.lstrip);
        let model = match tokenizer.get_model() {
            ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) => true,
            ModelWrapper::BPE(model) => model.dropout.is_none_or(|dropout| dropout == 0.0),
            ModelWrapper::Unigram(_) => false,
        };
        if !apart || !model {
            return None;
        }
        match (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer()?) {
            (Some(NormalizerWrapper::BertNormalizer(_)), PreTokenizerWrapper::BertPreTokenizer(_))
                if !left =>
            {
                Some(Self::Blanks)
            }
            (None | Some(NormalizerWrapper::Lowercase(_)), PreTokenizerWrapper::ByteLevel(bytes))
                if bytes.use_regex =>
            {
                Some(Self::BeforeBlank)
            }
            (None | Some(NormalizerWrapper::Lowercase(_)), PreTokenizerWrapper::WhitespaceSplit(_))
                if !left =>
            {
                Some(Self::WhiteSpace)
            }
            _ => None,
        }
    }

    /// The pieces of a text, in order.
    pub fn pieces(self, text: &str) -> Pieces<'_> {
        Pieces { cutting: self, rest: text }
    }
}

/// See [`Cutting::pieces`].
pub struct Pieces<'a> {
    cutting: Cutting,
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let length = match self.cutting {
            Cutting::Blanks => {
                self.rest = self.rest.trim_start_matches(is_blank);
                self.rest.find(is_blank).unwrap_or(self.rest.len())
            }
            Cutting::WhiteSpace => {
                self.rest = self.rest.trim_start();
                self.rest.find(char::is_whitespace).unwrap_or(self.rest.len())
            }
            Cutting::BeforeBlank => first_cut(self.rest),
        };
        let (piece, rest) = self.rest.split_at(length);
        self.rest = rest;
        (!piece.is_empty()).then_some(piece)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Byte position of the first blank, other than at the start, with no white space on either side; else the end.
fn first_cut(text: &str) -> usize {
    let solid = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace());
    let bytes = text.as_bytes();
    (1..bytes.len())
        .find(|&i| {
            bytes[i] == b' ' && solid(text[..i].chars().next_back()) && solid(text[i + 1..].chars().next())
        })
        .unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::Cutting;

    fn cut(cutting: Cutting, text: &str) -> Vec<&str> {
        cutting.pieces(text).collect()
    }

    #[test]
    fn blanks_belong_to_no_piece() {
        assert_eq!(cut(Cutting::Blanks, "  a\u{a0}b\tc\r\n d\u{85}e "), ["a\u{a0}b", "c", "d\u{85}e"]);
        assert!(cut(Cutting::Blanks, " \n").is_empty());
        assert_eq!(cut(Cutting::WhiteSpace, "  a\u{a0}b\tc\r\n d\u{85}e "), ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_blank_begins_a_piece_only_between_words() {
        assert_eq!(cut(Cutting::BeforeBlank, "a b  c\n d e"), ["a", " b  c\n d", " e"]);
        assert_eq!(cut(Cutting::BeforeBlank, " a "), [" a "]);
        assert_eq!(cut(Cutting::BeforeBlank, "é ü"), ["é", " ü"]);
        assert!(cut(Cutting::BeforeBlank, "").is_empty());
    }
}
