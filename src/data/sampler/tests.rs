use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

/// A label map with a few voxels of class 2, many of class 1, none of class 3.
fn labels(shape: [usize; 3]) -> Vec<u16> {
    let count = shape.iter().product::<usize>();
    (0..count).map(|i| if i % 37 == 5 { 2 } else { u16::from(i % 3 == 0) }).collect()
}

fn place(sampler: Sampler, shape: [usize; 3], target: [usize; 3], seed: u64, turn: Turn) -> ([isize; 3], Option<Spot>) {
    let labels = labels(shape);
    let census = Census::of(&labels, shape[0], 4);
    let mut asked = None;
    let placement = sampler
        .place(Placement::whole(shape, target, Fit::Pad), &census, seed, turn, |spot| -> Result<_, Infallible> {
            asked = Some(spot);
            let slice = shape[1] * shape[2];
            Ok(spot.find(&labels[spot.slice * slice..][..slice]).unwrap())
        })
        .unwrap();
    let Way::Region(start) = placement.way else { panic!("patches are not stretched") };
    (start, asked)
}

proptest! {
    #[test]
    fn a_patch_lies_inside_the_volume_or_around_it_and_holds_the_voxel_that_was_drawn(
        shape in proptest::array::uniform3(1usize..20),
        target in proptest::array::uniform3(1usize..20),
        foreground_share in 0f64..=1.0,
        position in 0usize..50,
        batch in 1usize..5,
    ) {
        let turn = Turn { epoch: 3, position, batch };
        let (start, spot) = place(Sampler::Patch { foreground_share }, shape, target, 9, turn);
        for axis in 0..3 {
            let (first, last) = (start[axis], start[axis] + target[axis] as isize);
            let is_inside = first >= 0 && last <= shape[axis] as isize;
            prop_assert!(is_inside || (target[axis] > shape[axis] && first <= 0 && last >= shape[axis] as isize));
        }
        if let Some(spot) = spot {
            let labels = labels(shape);
            let slice = shape[1] * shape[2];
            let at = spot.find(&labels[spot.slice * slice..][..slice]).unwrap();
            for (axis, voxel) in [spot.slice, at / shape[2], at % shape[2]].into_iter().enumerate() {
                let inside = voxel as isize - start[axis];
                prop_assert!(inside >= 0 && inside < target[axis] as isize);
                // In the middle, unless the border is near.
                let is_free = start[axis] > 0 && start[axis] + (target[axis] as isize) < shape[axis] as isize;
                prop_assert!(!is_free || inside == (target[axis] / 2) as isize);
            }
        }
    }
}

#[test]
fn the_share_of_a_batch_that_shows_foreground_is_nnu_nets() {
    let around = |share: f64, batch: usize| -> Vec<usize> {
        let turn = |position| Turn { epoch: 0, position, batch };
        let sampler = Sampler::Patch { foreground_share: share };
        (0..batch).filter(|&i| place(sampler, [9, 9, 9], [4; 3], 1, turn(i)).1.is_some()).collect()
    };
    assert_eq!(around(FOREGROUND_SHARE, 2), [1]);
    assert_eq!(around(FOREGROUND_SHARE, 3), [2]);
    assert_eq!(around(FOREGROUND_SHARE, 4), [3]);
    assert_eq!(around(FOREGROUND_SHARE, 6), [4, 5]);
    assert_eq!((around(0.0, 3), around(1.0, 3)), (vec![], vec![0, 1, 2]));
    // Alone, by chance: a third of many.
    let turn = |position| Turn { epoch: 0, position, batch: 1 };
    let sampler = Sampler::Patch { foreground_share: FOREGROUND_SHARE };
    let count = (0..3000).filter(|&i| place(sampler, [3, 4, 5], [2; 3], 1, turn(i)).1.is_some()).count();
    // Five standard deviations of a binomial distribution.
    assert!((count as f64 - 990.0).abs() < 5.0 * (3000.0 * 0.33 * 0.67f64).sqrt(), "{count}");
}

#[test]
fn classes_that_occur_are_drawn_alike_and_so_are_their_voxels() {
    let shape = [4, 5, 6];
    let labels = labels(shape);
    let census = Census::of(&labels, 4, 4);
    let mut stream = Stream::new(1, "census");
    let (mut classes, mut voxels) = ([0u32; 4], vec![0u32; labels.len()]);
    for _ in 0..12_000 {
        let spot = census.draw(&mut stream).unwrap();
        let at = spot.slice * 30 + spot.find(&labels[spot.slice * 30..][..30]).unwrap();
        assert_eq!(labels[at], spot.class);
        classes[usize::from(spot.class)] += 1;
        voxels[at] += 1;
    }
    assert_eq!((classes[0], classes[3]), (0, 0));
    let deviation = |n: f64, p: f64| 5.0 * (n * p * (1.0 - p)).sqrt();
    assert!((f64::from(classes[1]) - 6000.0).abs() < deviation(12_000.0, 0.5), "{classes:?}");
    for class in [1, 2] {
        let of_class: Vec<u32> = (0..labels.len()).filter(|&i| labels[i] == class).map(|i| voxels[i]).collect();
        let share = 1.0 / of_class.len() as f64;
        let n = f64::from(classes[usize::from(class)]);
        assert!(
            of_class.iter().all(|&count| (f64::from(count) - n * share).abs() < deviation(n, share)),
            "{of_class:?}"
        );
    }
    let background = Census::of(&[0; 12], 3, 2);
    assert_eq!(background.draw(&mut stream), None);
}

#[test]
fn patches_follow_from_seed_epoch_and_position_and_from_nothing_else() {
    let sampler = Sampler::Patch { foreground_share: 0.5 };
    let turn = |epoch, position| Turn { epoch, position, batch: 2 };
    let all =
        |seed, epoch| -> Vec<_> { (0..20).map(|i| place(sampler, [40; 3], [8; 3], seed, turn(epoch, i)).0).collect() };
    assert_eq!(all(1, 0), all(1, 0));
    assert!(all(1, 0) != all(1, 1) && all(1, 0) != all(2, 0));
    let distinct: std::collections::BTreeSet<_> = all(1, 0).into_iter().collect();
    assert_eq!(distinct.len(), 20);
}

#[test]
fn what_cannot_be_sampled_is_refused() {
    let refusal = |sampler: Sampler, fit| sampler.check(fit).unwrap_err().to_string();
    for foreground_share in [-0.1, 1.5, f64::NAN] {
        assert!(refusal(Sampler::Patch { foreground_share }, Fit::Pad).contains("from 0 to 1"));
    }
    assert!(refusal(Sampler::Patch { foreground_share: 0.3 }, Fit::Resize).contains("not stretched"));
    assert!(
        Sampler::Whole.check(Fit::Resize).is_ok() && Sampler::Patch { foreground_share: 0.3 }.check(Fit::Pad).is_ok()
    );
}
