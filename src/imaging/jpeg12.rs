//! JPEG Extended, 12 bits, one component (T.81 process 4, Huffman): what jpeg-decoder lacks.

use crate::imaging::jpeg::Segments;

/// Position in the block of each coefficient in the order of the stream (T.81 A.3.6).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Decodes a stream whose frame header has been checked: 12 bits, one component.
///
/// # Errors
/// What is wrong with the stream, in words.
pub fn decode(bytes: &[u8], width: usize, height: usize) -> Result<Vec<u16>, &'static str> {
    let tables = Tables::read(bytes)?;
    let mut bits = Bits { bytes: tables.scan, at: 0, held: 0, count: 0 };
    let (across, down) = (width.div_ceil(8), height.div_ceil(8));
    let cosines = cosines();
    let mut out = vec![0u16; width * height];
    let mut predicted = 0i32;
    for block in 0..across * down {
        if tables.restart > 0 && block > 0 && block % tables.restart == 0 {
            bits.restart()?;
            predicted = 0;
        }
        let mut coefficients = [0f32; 64];
        let size = tables.dc.decode(&mut bits)?;
        predicted = predicted.wrapping_add(bits.signed(size)?);
        coefficients[0] = predicted as f32 * tables.quantizers[0];
        let mut k = 1;
        while k < 64 {
            let code = tables.ac.decode(&mut bits)?;
            let (run, size) = (usize::from(code >> 4), code & 15);
            match (run, size) {
                (15, 0) => k += 16,
                (_, 0) => break,
                _ => {
                    k += run;
                    let Some(place) = ZIGZAG.get(k) else { return Err("a run beyond the block") };
                    coefficients[*place] = bits.signed(size)? as f32 * tables.quantizers[k];
                    k += 1;
                }
            }
        }
        let (x0, y0) = (block % across * 8, block / across * 8);
        let samples = inverse(&coefficients, &cosines);
        for y in 0..8.min(height - y0) {
            for x in 0..8.min(width - x0) {
                let level = (samples[y * 8 + x] + 2048.0).round().clamp(0.0, 4095.0);
                out[(y0 + y) * width + x0 + x] = level as u16;
            }
        }
    }
    match bits.ends_with_marker() {
        true => Ok(out),
        false => Err("the stream goes on after its last block"),
    }
}

struct Tables<'a> {
    /// In the order of the stream (zigzag).
    quantizers: [f32; 64],
    dc: Huffman,
    ac: Huffman,
    restart: usize,
    /// Entropy-coded bytes.
    scan: &'a [u8],
}

impl<'a> Tables<'a> {
    fn read(bytes: &'a [u8]) -> Result<Tables<'a>, &'static str> {
        let mut quantizers: [Option<[f32; 64]>; 4] = [None; 4];
        let mut huffman: [[Option<Huffman>; 4]; 2] = Default::default();
        let (mut restart, mut quantizer) = (0, 0);
        for segment in Segments::of(bytes) {
            let mut content = segment.content;
            match segment.marker {
                0xdb => {
                    while let [kind, rest @ ..] = content {
                        let wide = kind >> 4 == 1;
                        let length = if wide { 128 } else { 64 };
                        let table = rest.get(..length).ok_or("a broken quantization table")?;
                        let value = |i: usize| match wide {
                            true => f32::from(u16::from_be_bytes([table[2 * i], table[2 * i + 1]])),
                            false => f32::from(table[i]),
                        };
                        quantizers[usize::from(kind & 3)] = Some(std::array::from_fn(value));
                        content = &rest[length..];
                    }
                }
                0xc4 => {
                    while let [kind, rest @ ..] = content {
                        let counts = rest.get(..16).ok_or("a broken Huffman table")?;
                        let total: usize = counts.iter().map(|n| usize::from(*n)).sum();
                        let symbols = rest.get(16..16 + total).ok_or("a broken Huffman table")?;
                        let class = usize::from(kind >> 4 & 1);
                        huffman[class][usize::from(kind & 3)] = Some(Huffman::of(counts, symbols));
                        content = &rest[16 + total..];
                    }
                }
                0xdd => match content {
                    [high, low] => restart = usize::from(u16::from_be_bytes([*high, *low])),
                    _ => return Err("a broken restart interval"),
                },
                0xc1 => quantizer = usize::from(content.get(8).ok_or("a broken frame header")? & 3),
                0xda => {
                    let &[1, _, selectors, first, last, approximation] = content else {
                        return Err("a scan of several components");
                    };
                    if (first, last, approximation) != (0, 63, 0) {
                        return Err("a sequential scan with a spectral selection");
                    }
                    let end = segment.content.as_ptr() as usize - bytes.as_ptr() as usize
                        + segment.content.len();
                    let dc = huffman[0][usize::from(selectors >> 4 & 3)].take();
                    let ac = huffman[1][usize::from(selectors & 3)].take();
                    return Ok(Tables {
                        quantizers: quantizers[quantizer].ok_or("no quantization table")?,
                        dc: dc.ok_or("no Huffman table")?,
                        ac: ac.ok_or("no Huffman table")?,
                        restart,
                        scan: &bytes[end..],
                    });
                }
                _ => {}
            }
        }
        Err("no scan")
    }
}

/// A canonical Huffman code (T.81 C, F.2.2.3).
struct Huffman {
    /// For each length: code after the last one, and index of its first symbol minus its code.
    limits: [(i32, i32); 17],
    symbols: Vec<u8>,
}

impl Huffman {
    fn of(counts: &[u8], symbols: &[u8]) -> Huffman {
        let mut limits = [(0, 0); 17];
        let (mut code, mut index) = (0i32, 0i32);
        for (length, count) in counts.iter().enumerate() {
            let count = i32::from(*count);
            limits[length + 1] = (code + count, index - code);
            code = (code + count) << 1;
            index += count;
        }
        Huffman { limits, symbols: symbols.to_vec() }
    }

    fn decode(&self, bits: &mut Bits<'_>) -> Result<u8, &'static str> {
        let mut code = 0;
        for (limit, offset) in &self.limits[1..] {
            code = code << 1 | bits.next()? as i32;
            if code < *limit {
                let symbol = usize::try_from(code + offset).ok();
                let symbol = symbol.and_then(|at| self.symbols.get(at));
                return symbol.copied().ok_or("a code that is none");
            }
        }
        Err("a code that is none")
    }
}

/// Entropy-coded bits, byte stuffing removed.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u8,
    count: u32,
}

impl Bits<'_> {
    fn next(&mut self) -> Result<u32, &'static str> {
        if self.count == 0 {
            let byte = *self.bytes.get(self.at).ok_or("the stream is cut short")?;
            if byte == 0xff {
                match self.bytes.get(self.at + 1) {
                    Some(0) => self.at += 1,
                    _ => return Err("the stream is cut short"),
                }
            }
            self.at += 1;
            self.held = byte;
            self.count = 8;
        }
        self.count -= 1;
        Ok(u32::from(self.held >> self.count & 1))
    }

    /// A difference of `size` bits (T.81 F.2.2.1).
    fn signed(&mut self, size: u8) -> Result<i32, &'static str> {
        if size > 16 {
            return Err("a coefficient of more than 16 bits");
        }
        let mut value = 0i32;
        for _ in 0..size {
            value = value << 1 | self.next()? as i32;
        }
        let is_negative = size > 0 && value < 1 << (size - 1);
        Ok(if is_negative { value - (1 << size) + 1 } else { value })
    }

    fn restart(&mut self) -> Result<(), &'static str> {
        self.count = 0;
        match self.bytes.get(self.at..self.at + 2) {
            Some([0xff, 0xd0..=0xd7]) => {
                self.at += 2;
                Ok(())
            }
            _ => Err("a restart marker is missing"),
        }
    }

    fn ends_with_marker(&self) -> bool {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        rest.iter().take_while(|byte| **byte != 0xff).count() <= 1 && rest.contains(&0xd9)
    }
}

/// `cosines[x][u]` with its scale factor.
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|x| {
        std::array::from_fn(|u| {
            let scale = if u == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
            let angle = (2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0;
            (0.5 * scale * angle.cos()) as f32
        })
    })
}

/// The inverse DCT, rows then columns.
fn inverse(coefficients: &[f32; 64], cosines: &[[f32; 8]; 8]) -> [f32; 64] {
    let mut rows = [0f32; 64];
    for v in 0..8 {
        for x in 0..8 {
            rows[v * 8 + x] = (0..8).map(|u| coefficients[v * 8 + u] * cosines[x][u]).sum();
        }
    }
    std::array::from_fn(|at| (0..8).map(|v| rows[v * 8 + at % 8] * cosines[at / 8][v]).sum())
}
