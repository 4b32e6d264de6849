use tch::Kind;

/// How a tensor lies in a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub storage: Storage,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// A run of values in a file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub key: String,
    pub kind: Kind,
    pub numel: i64,
}

/// What a pickle may be made of. Values refer to one another by their place in one list, so that no pickle, however
/// nested, costs recursion.
#[derive(Debug)]
enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Str(String),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Global(Global),
    Storage(Storage),
    Tensor(TensorSpec),
}

/// The only names of Python a pickle may mention.
#[derive(Clone, Copy, Debug)]
enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    StorageOf(Kind),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch", "FloatStorage") => Global::StorageOf(Kind::Float),
            ("torch", "DoubleStorage") => Global::StorageOf(Kind::Double),
            ("torch", "HalfStorage") => Global::StorageOf(Kind::Half),
            ("torch", "BFloat16Storage") => Global::StorageOf(Kind::BFloat16),
            ("torch", "LongStorage") => Global::StorageOf(Kind::Int64),
            ("torch", "IntStorage") => Global::StorageOf(Kind::Int),
            ("torch", "ByteStorage") => Global::StorageOf(Kind::Uint8),
            ("torch", "BoolStorage") => Global::StorageOf(Kind::Bool),
            _ => return None,
        })
    }
}

/// Reads a pickled dictionary from names to tensors.
pub fn read_state_dict(bytes: &[u8]) -> Result<Vec<(String, TensorSpec)>, String> {
    Pickles::new(bytes).state_dict()
}

/// Pickles one after another, and what follows them.
pub struct Pickles<'a> {
    rest: &'a [u8],
}

impl<'a> Pickles<'a> {
    pub fn new(bytes: &'a [u8]) -> Pickles<'a> {
        Pickles { rest: bytes }
    }

    /// What follows the pickles read so far.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next as a dictionary from names to tensors.
    pub fn state_dict(&mut self) -> Result<Vec<(String, TensorSpec)>, String> {
        let (machine, top) = self.next()?;
        let Value::Dict(entries) = &machine.values[top] else {
            return Err("holds something other than a dictionary of tensors".to_owned());
        };
        entries
            .iter()
            .map(|&(key, value)| match (&machine.values[key], &machine.values[value]) {
                (Value::Str(name), Value::Tensor(spec)) => Ok((name.clone(), spec.clone())),
                (Value::Str(name), _) => Err(format!("holds \"{name}\", which is no tensor")),
                _ => Err("holds an entry without a name".to_owned()),
            })
            .collect()
    }

    /// The next as a whole number.
    pub fn number(&mut self) -> Result<i64, String> {
        let (machine, top) = self.next()?;
        machine.int(top)
    }

    /// The truth value of this name in the next, a dictionary.
    pub fn flag(&mut self, name: &str) -> Result<bool, String> {
        let (machine, top) = self.next()?;
        let Value::Dict(entries) = &machine.values[top] else { return Err(CUT_OFF.to_owned()) };
        let found =
            entries.iter().find_map(|&(key, value)| match (&machine.values[key], &machine.values[value]) {
                (Value::Str(known), Value::Bool(flag)) if known == name => Some(*flag),
                _ => None,
            });
        found.ok_or_else(|| CUT_OFF.to_owned())
    }

    /// The next as a list of texts.
    pub fn strings(&mut self) -> Result<Vec<String>, String> {
        let (machine, top) = self.next()?;
        let Value::List(items) = &machine.values[top] else { return Err(CUT_OFF.to_owned()) };
        items.iter().map(|&item| machine.string(item)).collect()
    }

    /// Runs the next; its values and the place of the result.
    fn next(&mut self) -> Result<(Machine<'a>, usize), String> {
        let mut machine = Machine {
            rest: self.rest,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
        };
        let top = machine.run()?;
        self.rest = machine.rest;
        Ok((machine, top))
    }
}

/// A pickle machine of the operations a saved dictionary of tensors needs.
struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: Vec<Option<usize>>,
}

const CUT_OFF: &str = "its pickle is damaged";

impl<'a> Machine<'a> {
    /// Runs to the end and returns the place of the result.
    fn run(&mut self) -> Result<usize, String> {
        loop {
            let operation = self.take(1)?[0];
            match operation {
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.push(Value::None),
                0x88 | 0x89 => self.push(Value::Bool(operation == 0x88)),
                b'K' => self.push_int::<1>(false)?,
                b'M' => self.push_int::<2>(false)?,
                b'J' => self.push_int::<4>(true)?,
                0x8a => self.push_long()?,
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Float);
                }
                b'X' => self.push_string::<4>()?,
                0x8c => self.push_string::<1>()?,
                b')' => self.push(Value::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let at = self.stack.len().checked_sub(usize::from(operation - 0x84)).ok_or(CUT_OFF)?;
                    let items = self.stack.split_off(at);
                    self.push(Value::Tuple(items));
                }
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Tuple(items));
                }
                b']' => self.push(Value::List(Vec::new())),
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(&items)?;
                }
                b'}' => self.push(Value::Dict(Vec::new())),
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(&items)?;
                }
                b'q' => {
                    let place = usize::from(self.take(1)?[0]);
                    self.memoize(place)?;
                }
                b'r' => {
                    let place = self.length::<4>()?;
                    self.memoize(place)?;
                }
                0x94 => self.memoize(self.memo.len())?,
                b'h' => {
                    let place = usize::from(self.take(1)?[0]);
                    self.recall(place)?;
                }
                b'j' => {
                    let place = self.length::<4>()?;
                    self.recall(place)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push_global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop_string()?, self.pop_string()?);
                    self.push_global(&module, &name)?;
                }
                b'Q' => self.persistent_id()?,
                b'R' => self.call()?,
                // Attributes of the dictionary itself, such as its `_metadata`: of no use here.
                b'b' => drop(self.pop()?),
                other => {
                    return Err(format!(
                        "its pickle uses operation {other:#04x}, which no saved tensors need"
                    ));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(taken)
    }

    fn length<const BYTES: usize>(&mut self) -> Result<usize, String> {
        let mut number = [0; 8];
        number[..BYTES].copy_from_slice(self.take(BYTES)?);
        usize::try_from(u64::from_le_bytes(number)).map_err(|_| CUT_OFF.to_owned())
    }

    fn line(&mut self) -> Result<String, String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or(CUT_OFF)?;
        let line = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest = &self.rest[end + 1..];
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn push_int<const BYTES: usize>(&mut self, signed: bool) -> Result<(), String> {
        let number = self.length::<BYTES>()? as i64;
        let unused = 64 - 8 * BYTES as u32;
        self.push(Value::Int(if signed { number << unused >> unused } else { number }));
        Ok(())
    }

    fn push_long(&mut self) -> Result<(), String> {
        let count = usize::from(self.take(1)?[0]);
        let bytes = self.take(count)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if negative { 0xff } else { 0 }; 8];
        number
            .get_mut(..count)
            .ok_or("its pickle holds a number of more than 64 bits")?
            .copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(number)));
        Ok(())
    }

    fn push_string<const BYTES: usize>(&mut self) -> Result<(), String> {
        let length = self.length::<BYTES>()?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| CUT_OFF)?.to_owned();
        self.push(Value::Str(text));
        Ok(())
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = Global::named(module, name).ok_or_else(|| {
            format!("its pickle asks for Python's {module}.{name}, which is not needed for tensors")
        })?;
        self.push(Value::Global(global));
        Ok(())
    }

    fn pop(&mut self) -> Result<usize, String> {
        self.stack.pop().ok_or_else(|| CUT_OFF.to_owned())
    }

    fn pop_string(&mut self) -> Result<String, String> {
        let place = self.pop()?;
        self.string(place)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<usize>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or(CUT_OFF)?;
        Ok(self.stack.split_off(mark))
    }

    fn set_items(&mut self, items: &[usize]) -> Result<(), String> {
        let place = *self.stack.last().ok_or(CUT_OFF)?;
        let Value::Dict(entries) = &mut self.values[place] else { return Err(CUT_OFF.to_owned()) };
        entries.extend(items.as_chunks().0.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn append(&mut self, items: &[usize]) -> Result<(), String> {
        let place = *self.stack.last().ok_or(CUT_OFF)?;
        let Value::List(list) = &mut self.values[place] else { return Err(CUT_OFF.to_owned()) };
        list.extend(items);
        Ok(())
    }

    fn memoize(&mut self, place: usize) -> Result<(), String> {
        let value = *self.stack.last().ok_or(CUT_OFF)?;
        // Places are given out in order, so a gap is a sign of damage, and the list cannot be made to explode.
        if place > self.values.len() {
            return Err(CUT_OFF.to_owned());
        }
        if place >= self.memo.len() {
            self.memo.resize(place + 1, None);
        }
        self.memo[place] = Some(value);
        Ok(())
    }

    fn recall(&mut self, place: usize) -> Result<(), String> {
        let value = self.memo.get(place).copied().flatten().ok_or(CUT_OFF)?;
        self.stack.push(value);
        Ok(())
    }

    /// `('storage', type, key, device, number of values)` becomes a storage; the legacy layout has a sixth field, which
    /// is `None` but for storages that are parts of others.
    fn persistent_id(&mut self) -> Result<(), String> {
        let place = self.pop()?;
        let fields = self.tuple(place)?;
        let (kind, key, numel) = match fields.as_slice() {
            [_, kind, key, _, numel] => (kind, key, numel),
            [_, kind, key, _, numel, part] if matches!(self.values[*part], Value::None) => (kind, key, numel),
            [_, _, _, _, _, _] => return Err("holds a storage that is part of another".to_owned()),
            _ => return Err(CUT_OFF.to_owned()),
        };
        let Value::Global(Global::StorageOf(kind)) = self.values[*kind] else {
            return Err(CUT_OFF.to_owned());
        };
        let storage = Storage { key: self.string(*key)?, kind, numel: self.int(*numel)? };
        self.push(Value::Storage(storage));
        Ok(())
    }

    /// Calls one of the known functions.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = self.tuple(arguments)?;
        let value = match (&self.values[function], arguments.as_slice()) {
            (Value::Global(Global::OrderedDict), []) => Value::Dict(Vec::new()),
            (Value::Global(Global::RebuildParameter), [data, ..]) => match &self.values[*data] {
                Value::Tensor(spec) => Value::Tensor(spec.clone()),
                _ => return Err(CUT_OFF.to_owned()),
            },
            (Value::Global(Global::RebuildTensor), [storage, offset, size, stride, ..]) => {
                let Value::Storage(storage) = &self.values[*storage] else { return Err(CUT_OFF.to_owned()) };
                Value::Tensor(TensorSpec {
                    storage: storage.clone(),
                    offset: self.int(*offset)?,
                    size: self.ints(*size)?,
                    stride: self.ints(*stride)?,
                })
            }
            _ => return Err("its pickle makes something other than tensors".to_owned()),
        };
        self.push(value);
        Ok(())
    }

    fn tuple(&self, place: usize) -> Result<Vec<usize>, String> {
        match &self.values[place] {
            Value::Tuple(items) => Ok(items.clone()),
            _ => Err(CUT_OFF.to_owned()),
        }
    }

    fn int(&self, place: usize) -> Result<i64, String> {
        match &self.values[place] {
            Value::Int(number) => Ok(*number),
            _ => Err(CUT_OFF.to_owned()),
        }
    }

    fn ints(&self, place: usize) -> Result<Vec<i64>, String> {
        self.tuple(place)?.into_iter().map(|item| self.int(item)).collect()
    }

    fn string(&self, place: usize) -> Result<String, String> {
        match &self.values[place] {
            Value::Str(text) => Ok(text.clone()),
            _ => Err(CUT_OFF.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"w": tensor of shape [2, 3]}` in pickle protocol 2.
    const SAVED: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\
\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x06tq\x07QK\x00K\x02K\x03\
\x86q\x08K\x03K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds.";

    #[test]
    fn a_dictionary_of_tensors_is_read() {
        let read = read_state_dict(SAVED).unwrap();
        let storage = Storage { key: "0".to_owned(), kind: Kind::Float, numel: 6 };
        let spec = TensorSpec { storage, offset: 0, size: vec![2, 3], stride: vec![3, 1] };
        assert_eq!(read, [("w".to_owned(), spec)]);
    }

    #[test]
    fn code_is_refused_by_name() {
        let evil = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.";
        let message = read_state_dict(evil).unwrap_err();
        assert!(message.contains("Python's os.system"), "{message}");
    }

    #[test]
    fn other_entries_are_named() {
        let message = read_state_dict(b"\x80\x02}X\x05\x00\x00\x00epochK\x03s.").unwrap_err();
        assert_eq!(message, "holds \"epoch\", which is no tensor");
    }

    #[test]
    fn numbers_keep_their_sign() {
        let mut machine = Machine {
            rest: b"J\xff\xff\xff\xffM\xff\xffK\xff\x8a\x02\x00\x80\x8a\x00.",
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
        };
        machine.run().unwrap();
        let numbers: Vec<i64> = (0..5).map(|place| machine.int(place).unwrap()).collect();
        assert_eq!(numbers, [-1, 65_535, 255, -32_768, 0]);
    }

    #[test]
    fn damage_is_an_error_and_never_a_crash() {
        for cut in 0..SAVED.len() {
            assert!(read_state_dict(&SAVED[..cut]).is_err());
        }
        for at in 0..SAVED.len() {
            for byte in [0x00, 0xff, b'R', b'u', b's', b'Q', b't'] {
                let mut damaged = SAVED.to_vec();
                damaged[at] = byte;
                let _ = read_state_dict(&damaged);
            }
        }
    }
}
