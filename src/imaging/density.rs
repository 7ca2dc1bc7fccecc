//! What the pixels of a region say of its density: Hounsfield units of the dense part of a box on a
//! CT slice, as far as it stands free in lung.

use std::path::Path;

use crate::domain::finding::Density;
use crate::domain::finding::Region;
use crate::domain::study::Instance;
use crate::imaging::ImagingError;
use crate::imaging::decode::Image;
use crate::imaging::survey::Grid;
use crate::imaging::window;
use crate::imaging::window::Transform;

/// Aerated lung is below; ground glass is above.
const LUNG_MAX_HU: f32 = -700.0;
/// Soft tissue with a part of lung in its voxel is above.
const SOLID_MIN_HU: f32 = -300.0;
/// Pixels around the box that are looked at, for what reaches into it.
const MARGIN_PX: f64 = 2.0;
/// Share of the frame around the box that may be dense: a vessel or two enter a nodule; a wall, a
/// scissure or a hilum is more.
const ATTACHED_MAX: f64 = 0.25;
/// Fewer pixels without their rim say nothing.
const PIXELS_MIN: usize = 9;

/// Measures one region.
///
/// # Errors
/// [`ImagingError`]: not in Hounsfield units, not decoded, nothing dense in the box, too small, or
/// not free of what is around it.
pub fn density(data: &Path, instance: &Instance, region: &Region) -> Result<Density, ImagingError> {
    let mut image = Image::open(&data.join(&instance.object))?;
    let number = region.image.frame.map_or(0, |frame| frame.saturating_sub(1));
    let frame = image.frame(number)?;
    let transform = Transform::of(&image, number);
    if instance.modality != "CT" || !transform.has_modality || image.shape.samples != 1 {
        return Err(ImagingError::Picture("its values are not in Hounsfield units".into()));
    }
    let span = |from: f64, to: f64, size: usize| {
        let last = size.saturating_sub(1) as f64;
        let from = (from - MARGIN_PX).floor().clamp(0.0, last) as usize;
        from..=((to + MARGIN_PX).ceil() - 1.0).clamp(from as f64, last) as usize
    };
    let columns = span(region.x0, region.x1, frame.columns);
    let rows = span(region.y0, region.y1, frame.rows);
    let wide = columns.clone().count();
    let at = rows.flat_map(|y| columns.clone().map(move |x| y * frame.columns + x));
    let hu = at.map(|at| transform.modality.apply(frame.values.get(at)) as f32).collect();
    of_box(Grid::of(hu, wide))
}

fn of_box(grid: Grid) -> Result<Density, ImagingError> {
    let refuse = |why: &str| Err(ImagingError::Picture(why.to_owned()));
    let dense = grid.marked(|hu| hu > LUNG_MAX_HU);
    let edge: Vec<usize> = (0..dense.len()).filter(|at| grid.is_at_edge(*at)).collect();
    let entering = edge.iter().filter(|at| dense[**at]).count();
    if entering as f64 > ATTACHED_MAX * edge.len() as f64 {
        return refuse("it does not stand free in lung");
    }
    let Some(part) = grid.parts(&dense).into_iter().max_by_key(|part| part.cells.len()) else {
        return refuse("there is nothing dense in the box");
    };
    // The rim holds part of the lung around.
    let inside = grid.of_cells(&part.cells);
    let is_inner = |at: &&usize| grid.beside(**at).all(|other| inside[other]);
    let inner = part.cells.iter().filter(is_inner).filter(|at| !grid.is_at_edge(**at));
    let mut values: Vec<f64> = inner.map(|at| f64::from(grid.values[*at])).collect();
    if values.len() < PIXELS_MIN {
        return refuse("it is too small");
    }
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let solid = values.iter().filter(|hu| **hu >= f64::from(SOLID_MIN_HU)).count();
    let at = |percent| window::percentile(&values, percent).unwrap_or_default();
    Ok(Density {
        pixels: values.len() as u32,
        mean_hu: values.iter().sum::<f64>() / count,
        low_hu: at(10.0),
        median_hu: at(50.0),
        high_hu: at(90.0),
        solid_share: solid as f64 / count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: usize = 30;

    /// Discs (x, y, radius, HU) over each other in lung, their edges as blurred as a CT's.
    fn measured(discs: &[(f64, f64, f64, f32)]) -> Result<Density, String> {
        let hu = |at: usize| {
            let (x, y) = ((at % EDGE) as f64, (at / EDGE) as f64);
            discs.iter().fold(-860.0, |below: f32, disc| {
                let beyond = (x - disc.0).hypot(y - disc.1) - disc.2;
                let share = (0.5 - beyond / 2.0).clamp(0.0, 1.0) as f32;
                below + (disc.3 - below) * share
            })
        };
        let hu = (0..EDGE * EDGE).map(hu).collect();
        of_box(Grid::of(hu, EDGE)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_share_of_solid_tissue_is_that_of_the_nodule_and_not_of_its_box() {
        let solid = measured(&[(15.0, 15.0, 6.0, 30.0)]).unwrap();
        assert!(solid.solid_share > 0.9 && solid.median_hu > 0.0, "{solid:?}");
        let small = measured(&[(15.0, 15.0, 4.0, 30.0)]).unwrap();
        assert!(small.solid_share > 0.8, "in a box that is far too wide: {small:?}");
        let glass = measured(&[(15.0, 15.0, 8.0, -600.0)]).unwrap();
        assert!(glass.solid_share == 0.0 && (-650.0..-550.0).contains(&glass.mean_hu), "{glass:?}");
        let part = measured(&[(15.0, 15.0, 9.0, -600.0), (15.0, 15.0, 5.0, 30.0)]).unwrap();
        assert!((0.15..0.6).contains(&part.solid_share), "{part:?}");
        let with_vessel = measured(&[(15.0, 15.0, 6.0, 30.0), (15.0, 3.0, 1.5, 30.0)]).unwrap();
        assert!(with_vessel.solid_share > 0.9, "{with_vessel:?}");
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for (discs, why) in [
            (vec![], "nothing dense"),
            (vec![(15.0, 15.0, 1.5, 30.0)], "too small"),
            (vec![(15.0, 15.0, 6.0, 30.0), (15.0, 40.0, 20.0, 30.0)], "not stand free"),
            (vec![(15.0, 15.0, 40.0, 30.0)], "not stand free"),
        ] {
            let said = measured(&discs).unwrap_err();
            assert!(said.contains(why), "{discs:?}: {said}");
        }
    }
}
