//! Boxes that may be tilted.

/// A box whose edges need not lie along the picture's: columns and rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tilted {
    pub middle: [f64; 2],
    /// From the middle to the end of the line, and to its lower edge.
    pub along: [f64; 2],
    pub down: [f64; 2],
}

/// From here on a box is tilted.
const DEGREES_MIN: f64 = 3.0;

impl Tilted {
    pub fn level([x0, y0, x1, y1]: [f64; 4]) -> Tilted {
        Tilted {
            middle: [f64::midpoint(x0, x1), f64::midpoint(y0, y1)],
            along: [(x1 - x0) / 2.0, 0.0],
            down: [0.0, (y1 - y0) / 2.0],
        }
    }

    /// The smallest box, to a degree, around runs of pixels: row, first column and the one after the
    /// last. Its line lies along its longer edge.
    pub fn around(runs: &[(usize, usize, usize)]) -> Tilted {
        let points: Vec<[f64; 2]> = runs
            .iter()
            .flat_map(|&(y, x0, x1)| [(x0, y), (x1, y), (x0, y + 1), (x1, y + 1)])
            .map(|(x, y)| [x as f64, y as f64])
            .collect();
        let mut smallest = (f64::MAX, Tilted::level([0.0; 4]));
        for degrees in 0..90 {
            let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
            let extent = |axis: [f64; 2]| {
                points
                    .iter()
                    .map(|point| dot(*point, axis))
                    .fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(at), high.max(at)))
            };
            let (along, down) = ([cos, sin], [-sin, cos]);
            let ((a0, a1), (d0, d1)) = (extent(along), extent(down));
            let area = (a1 - a0) * (d1 - d0);
            if area < smallest.0 {
                let (a, d) = (f64::midpoint(a0, a1), f64::midpoint(d0, d1));
                let found = Tilted {
                    middle: [a * cos - d * sin, a * sin + d * cos],
                    along: times(along, (a1 - a0) / 2.0),
                    down: times(down, (d1 - d0) / 2.0),
                };
                let is_upright = found.wide() < found.high();
                smallest = (area, if is_upright { found.turned(1) } else { found });
            }
        }
        smallest.1
    }

    pub fn wide(&self) -> f64 {
        2.0 * length(self.along)
    }

    pub fn high(&self) -> f64 {
        2.0 * length(self.down)
    }

    pub fn is_tilted(&self) -> bool {
        let [x, y] = self.along;
        let degrees = y.atan2(x).to_degrees().rem_euclid(90.0);
        degrees.min(90.0 - degrees) >= DEGREES_MIN
    }

    /// The same box for a line that runs so many quarters of a turn further, clockwise.
    pub fn turned(self, quarters: usize) -> Tilted {
        let Tilted { middle, along, down } = self;
        match quarters % 4 {
            0 => self,
            1 => Tilted { middle, along: down, down: times(along, -1.0) },
            2 => Tilted { middle, along: times(along, -1.0), down: times(down, -1.0) },
            _ => Tilted { middle, along: times(down, -1.0), down: along },
        }
    }

    /// Longer by `ends` at both ends of the line, higher by `sides` at both sides.
    pub fn grown(self, ends: f64, sides: f64) -> Tilted {
        let further = |half: [f64; 2], by: f64| times(half, 1.0 + by / length(half));
        Tilted { along: further(self.along, ends), down: further(self.down, sides), ..self }
    }

    /// In a picture that is so many times as wide and as high.
    pub fn scaled(self, across: f64, down: f64) -> Tilted {
        let scaled = |[x, y]: [f64; 2]| [x * across, y * down];
        Tilted { middle: scaled(self.middle), along: scaled(self.along), down: scaled(self.down) }
    }

    /// What of a level box is in a picture.
    pub fn within(self, columns: usize, rows: usize) -> Tilted {
        let [first, _, last, _] = self.corners();
        let within = |[x, y]: [f64; 2]| [x.clamp(0.0, columns as f64), y.clamp(0.0, rows as f64)];
        let ([x0, y0], [x1, y1]) = (within(first), within(last));
        Tilted::level([x0, y0, x1, y1])
    }

    /// A point, from -1 to 1 along the line and down.
    pub fn at(&self, along: f64, down: f64) -> [f64; 2] {
        [0, 1].map(|axis| self.middle[axis] + along * self.along[axis] + down * self.down[axis])
    }

    /// Clockwise, from where the line begins.
    pub fn corners(&self) -> [[f64; 2]; 4] {
        [self.at(-1.0, -1.0), self.at(1.0, -1.0), self.at(1.0, 1.0), self.at(-1.0, 1.0)]
    }

    /// Of a row of pixels, those that it touches: from the first to before the second.
    pub fn touched(&self, row: usize, columns: usize) -> std::ops::Range<usize> {
        let (top, bottom) = (row as f64, row as f64 + 1.0);
        let corners = self.corners();
        let (mut first, mut last) = (f64::MAX, f64::MIN);
        for (at, from) in corners.iter().enumerate() {
            let to = corners[(at + 1) % 4];
            let (low, high) = (from[1].min(to[1]).max(top), from[1].max(to[1]).min(bottom));
            if low >= high {
                continue;
            }
            for y in [low, high] {
                let share = (y - from[1]) / (to[1] - from[1]);
                let reached = from[0] + share * (to[0] - from[0]);
                (first, last) = (first.min(reached), last.max(reached));
            }
        }
        if first > last {
            return 0..0;
        }
        let within = |x: f64| x.clamp(0.0, columns as f64);
        within(first).floor() as usize..within(last).ceil() as usize
    }
}

fn dot([x, y]: [f64; 2], [a, b]: [f64; 2]) -> f64 {
    x * a + y * b
}

fn times([x, y]: [f64; 2], by: f64) -> [f64; 2] {
    [x * by, y * by]
}

fn length([x, y]: [f64; 2]) -> f64 {
    x.hypot(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_box_lies_along_what_it_surrounds() {
        for degrees in [0_i32, 20, 45, 70, 90, 135, 160] {
            let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
            let drawn = Tilted {
                middle: [60.0, 50.0],
                along: [40.0 * cos, 40.0 * sin],
                down: [-5.0 * sin, 5.0 * cos],
            };
            let runs: Vec<(usize, usize, usize)> = (0..100)
                .map(|row| (row, drawn.touched(row, 120)))
                .filter(|(_, touched)| !touched.is_empty())
                .map(|(row, touched)| (row, touched.start, touched.end))
                .collect();
            let found = Tilted::around(&runs);
            let apart = (found.along[1].atan2(found.along[0]).to_degrees() - f64::from(degrees))
                .rem_euclid(180.0);
            assert!(apart.min(180.0 - apart) <= 2.0, "{degrees}: {found:?}");
            assert!((78.0..86.0).contains(&found.wide()), "{degrees}: {found:?}");
            assert!((9.0..14.0).contains(&found.high()), "{degrees}: {found:?}");
            assert_eq!(found.is_tilted(), degrees % 90 != 0, "{degrees}");
        }
    }

    #[test]
    fn the_pixels_that_a_box_touches_are_within_the_picture() {
        let level = Tilted::level([1.5, 2.0, 4.0, 3.5]);
        let rows: Vec<_> = (0..5).map(|row| level.touched(row, 4)).collect();
        assert_eq!(rows, [0..0, 0..0, 1..4, 1..4, 0..0]);
        // A square on its corner.
        let tilted = Tilted { middle: [2.0, 2.0], along: [1.0, 1.0], down: [-1.0, 1.0] };
        let rows: Vec<_> = (0..5).map(|row| tilted.touched(row, 8)).collect();
        assert_eq!(rows, [1..3, 0..4, 0..4, 1..3, 0..0]);
        let outside = Tilted { middle: [-9.0, 2.0], ..tilted };
        assert!(outside.touched(1, 8).is_empty());
    }
}
