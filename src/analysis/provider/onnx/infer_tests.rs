//! Against numpy, Pillow and onnxruntime; what does not fit is an error.

use super::*;
use crate::analysis::provider::onnx::testing::fixture;

fn picture(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

#[test]
fn scores_are_as_with_numpy_and_onnxruntime() {
    let reference = std::fs::read_to_string(fixture("reference.csv")).unwrap();
    let (mut compared, mut worst) = (0, 0.0_f64);
    for row in reference.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()) {
        let folder = fixture(row[0]);
        let manifest = Manifest::open(&folder).unwrap();
        let found = scores(&folder, &manifest, &[picture(row[1])]).unwrap();
        let expected: Vec<f64> = row[2].split(' ').map(|one| one.parse().unwrap()).collect();
        assert_eq!(found[0].len(), expected.len());
        for (found, expected) in found[0].iter().zip(&expected) {
            let apart = (found - expected).abs();
            assert!(apart < 2e-5, "{row:?}: {found}");
            worst = worst.max(apart);
            compared += 1;
        }
    }
    println!("{compared} scores, largest difference {worst:e}");
    assert_eq!(compared, 22);
}

#[test]
fn each_picture_is_read_on_its_own() {
    let folder = fixture("rgb-squash");
    let manifest = Manifest::open(&folder).unwrap();
    let one = |name| scores(&folder, &manifest, &[picture(name)]).unwrap().remove(0);
    let both = scores(&folder, &manifest, &[picture("grey.png"), picture("colour.png")]).unwrap();
    assert_eq!(both, [one("grey.png"), one("colour.png")]);
}

#[test]
fn what_does_not_fit_is_an_error_and_no_score() {
    let open = |name: &str| Manifest::open(&fixture(name)).unwrap();
    type Change = fn(&mut Manifest);
    let rows: [(&str, Change, &str); 8] = [
        ("rgb-squash", |m| m.input.tensor = "image".into(), "no tensor \"image\""),
        ("rgb-squash", |m| m.outputs[0].tensor = "scores".into(), "no tensor \"scores\""),
        ("rgb-squash", |m| m.outputs[0].numbers = 4, "gives 3 numbers, not 4"),
        ("rgb-squash", |m| m.outputs[0].tensor = "means".into(), "gives 4 numbers, not 3"),
        ("rgb-squash", |m| m.input.channels = 1, "cannot be run"),
        ("bgr-fit", |m| m.outputs[0].activation = Activation::None, "is an activation missing"),
        ("rgb-squash", |m| m.graph.sha256 = "0".repeat(64), "another graph"),
        ("broken-nan", |_| (), "what is no number"),
    ];
    for (name, change, part) in rows {
        let mut manifest = open(name);
        change(&mut manifest);
        let found = scores(&fixture(name), &manifest, &[picture("grey.png")]).unwrap_err();
        assert!(found.contains(part), "{part}: {found}");
    }
    let manifest = open("rgb-squash");
    assert!(scores(&fixture("rgb-squash"), &manifest, &[b"no picture".to_vec()]).is_err());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), "no graph").unwrap();
    let mut manifest = manifest;
    manifest.graph.sha256 = text::hex(&Sha256::digest("no graph"));
    let found = scores(folder.path(), &manifest, &[]).unwrap_err();
    assert!(found.starts_with("model.onnx: "), "{found}");
}

#[test]
fn a_picture_is_fitted_or_cropped_around_its_middle() {
    let manifest = Manifest::open(&fixture("grey-crop")).unwrap();
    let with = |resize| Input { width: 4, height: 2, padding: 9, resize, ..manifest.input.clone() };
    // A row of 2 x 1, a column of 1 x 2.
    for (size, resize, expected) in [
        ((4, 4), Resize::Squash, [1.0; 8]),
        ((2, 2), Resize::Fit, [9.0, 1.0, 1.0, 9.0, 9.0, 1.0, 1.0, 9.0]),
        ((8, 2), Resize::Fit, [1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0]),
        ((2, 2), Resize::Crop, [1.0; 8]),
    ] {
        let found = resized(&vec![1; size.0 * size.1], size, &with(resize));
        assert_eq!(found, expected, "{size:?} {resize:?}");
    }
    // The middle two of four rows.
    let rows = [[1; 4], [2; 4], [3; 4], [4; 4]].concat();
    let found = resized(&rows, (4, 4), &with(Resize::Crop));
    assert_eq!(found, [2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0]);
}
