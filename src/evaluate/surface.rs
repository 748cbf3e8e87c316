//! How much surface lies in a 2x2x2 neighbourhood of a mask: the area of each of the 256 neighbour codes.
//!
//! The surface Dice of DeepMind (Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head
//! and neck anatomy for radiotherapy", 2018) weights every surface element by the area that marching cubes (Lorensen and
//! Cline, 1987) puts into its neighbourhood. We derive the areas from the geometry instead of carrying a table:
//!
//! 1. The surface crosses the cube's edges in their middles, wherever an edge joins an inside and an outside corner.
//! 2. On each face the crossings are joined in pairs. Where all four edges are crossed there are two ways, and as in
//!    Lorensen and Cline the inside corners are cut off one by one. A code with more than four inside corners is
//!    treated as its complement, so a mask and its negative have the same area.
//! 3. The joins close into loops of three to six crossings, and a loop is cut into triangles. Loops of five and six
//!    may bend, so the cut matters: the one of the largest area in a unit cube counts. (Small area would look more
//!    natural; the largest is what reproduces the published areas of all 256 codes, at any spacing.)
//! 4. The cut is fixed in the unit cube; the voxel spacing then scales each triangle's area vector axis by axis.

use std::sync::OnceLock;

/// Neighbour codes: bit `4 dz + 2 dy + dx` is set if the voxel at offset (dz, dy, dx) is inside.
const CODES: usize = 256;

/// A point of the unit cube in half edges: 0, 1 or 2 per axis.
type Point = [i8; 3];

/// The surface area in mm^2 inside the cube between eight voxel centres, by neighbour code, for a spacing [D, H, W].
pub(super) fn areas_by_code(spacing: [f64; 3]) -> [f64; CODES] {
    static TRIANGLES: OnceLock<Vec<Vec<[f64; 3]>>> = OnceLock::new();
    let triangles = TRIANGLES.get_or_init(|| (0..CODES).map(|code| area_vectors(code as u8)).collect());
    let [depth, height, width] = spacing;
    let scale = [height * width, depth * width, depth * height];
    std::array::from_fn(|code| triangles[code].iter().map(|vector| length(scaled(*vector, scale))).sum())
}

/// The area vectors (half the cross product of two sides) of the triangles of one code, in a unit cube.
fn area_vectors(code: u8) -> Vec<[f64; 3]> {
    let code = if code.count_ones() > 4 { !code } else { code };
    loops(&joins(code)).iter().flat_map(|polygon| largest_triangulation(polygon)).collect()
}

/// Pairs of edge middles that the surface joins across the cube's six faces.
fn joins(code: u8) -> Vec<[Point; 2]> {
    let mut joins = Vec::new();
    for axis in 0..3 {
        for side in [0, 2] {
            let ring = [(0, 0), (2, 0), (2, 2), (0, 2)].map(|(first, second)| {
                let mut corner = [0; 3];
                corner[axis] = side;
                corner[(axis + 1) % 3] = first;
                corner[(axis + 2) % 3] = second;
                corner
            });
            let inside = ring.map(|[z, y, x]| code >> (2 * z + y + x / 2) & 1 == 1);
            let middle = |edge: usize| -> Point {
                std::array::from_fn(|axis| (ring[edge % 4][axis] + ring[(edge + 1) % 4][axis]) / 2)
            };
            let crossed: Vec<usize> = (0..4).filter(|&edge| inside[edge] != inside[(edge + 1) % 4]).collect();
            match crossed[..] {
                [first, second] => joins.push([middle(first), middle(second)]),
                [_, _, _, _] => {
                    let cut_off = (0..4).filter(|&corner| inside[corner]);
                    joins.extend(cut_off.map(|corner| [middle(corner + 3), middle(corner)]));
                }
                _ => {}
            }
        }
    }
    joins
}

/// Chains joins into closed loops. Every crossing lies on two faces, so it has exactly two joins.
fn loops(joins: &[[Point; 2]]) -> Vec<Vec<Point>> {
    let mut open = joins.to_vec();
    let mut loops = Vec::new();
    while let Some([start, mut end]) = open.pop() {
        let mut polygon = vec![start];
        while end != start {
            polygon.push(end);
            let next = open.iter().position(|join| join.contains(&end)).expect("each crossing has two joins");
            let [first, second] = open.swap_remove(next);
            end = if first == end { second } else { first };
        }
        loops.push(polygon);
    }
    loops
}

/// The area vectors of the triangulation with the largest total area. At most 14 ways (six corners), so all are tried.
fn largest_triangulation(polygon: &[Point]) -> Vec<[f64; 3]> {
    let [first, .., last] = polygon else { return Vec::new() };
    let mut best = (f64::NEG_INFINITY, Vec::new());
    for apex in 1..polygon.len() - 1 {
        let mut triangles = vec![half_cross(*first, polygon[apex], *last)];
        triangles.extend(largest_triangulation(&polygon[..=apex]));
        triangles.extend(largest_triangulation(&polygon[apex..]));
        let area = triangles.iter().map(|vector| length(*vector)).sum();
        // Equal areas up to rounding are ties of mirror images, which stay equal at every spacing: the first will do.
        if area > best.0 + 1e-9 {
            best = (area, triangles);
        }
    }
    best.1
}

/// Half the cross product of two sides of a triangle given in half edges of a unit cube.
fn half_cross(a: Point, b: Point, c: Point) -> [f64; 3] {
    let side = |p: Point, q: Point| -> [f64; 3] { std::array::from_fn(|axis| f64::from(q[axis] - p[axis]) / 2.0) };
    let (u, v) = (side(a, b), side(a, c));
    std::array::from_fn(|axis| {
        let (j, k) = ((axis + 1) % 3, (axis + 2) % 3);
        0.5 * (u[j] * v[k] - u[k] * v[j])
    })
}

fn scaled(vector: [f64; 3], scale: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|axis| vector[axis] * scale[axis])
}

fn length(vector: [f64; 3]) -> f64 {
    vector.iter().map(|component| component * component).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    const SPACING: [f64; 3] = [2.5, 0.7, 1.1];

    #[test]
    fn a_plane_has_the_area_of_the_voxel_face_that_it_cuts() {
        let [depth, height, width] = SPACING;
        let areas = areas_by_code(SPACING);
        assert_relative_eq!(areas[0b0000_1111], height * width, max_relative = 1e-15);
        assert_relative_eq!(areas[0b0011_0011], depth * width, max_relative = 1e-15);
        assert_relative_eq!(areas[0b0101_0101], depth * height, max_relative = 1e-15);
    }

    #[test]
    fn a_box_corner_is_the_triangle_between_three_edge_middles() {
        // Sides p, q, r of the half voxel: twice the area is |(qr, pr, pq)|.
        let [p, q, r] = SPACING.map(|step| step / 2.0);
        let expected = 0.5 * ((q * r).powi(2) + (p * r).powi(2) + (p * q).powi(2)).sqrt();
        let areas = areas_by_code(SPACING);
        for corner in 0..8 {
            assert_relative_eq!(areas[1 << corner], expected, max_relative = 1e-15);
        }
    }

    #[test]
    fn a_box_edge_is_the_oblique_rectangle_across_two_half_voxels() {
        let [depth, height, width] = SPACING;
        let areas = areas_by_code(SPACING);
        // Two inside corners along W: the rectangle is W long and spans half of D and half of H.
        let expected = width * (depth / 2.0).hypot(height / 2.0);
        assert_relative_eq!(areas[0b0000_0011], expected, max_relative = 1e-15);
    }

    #[test]
    fn area_is_the_same_for_the_complement_and_zero_only_for_empty_and_full() {
        let areas = areas_by_code(SPACING);
        for code in 0..CODES {
            assert_relative_eq!(areas[code], areas[CODES - 1 - code], max_relative = 1e-14);
            assert_eq!(areas[code] == 0.0, code == 0 || code == 255, "{code:#010b}");
        }
    }

    #[test]
    fn area_does_not_change_when_the_cube_and_its_spacing_are_turned_or_mirrored() {
        let areas = areas_by_code(SPACING);
        let turned = areas_by_code([SPACING[1], SPACING[2], SPACING[0]]);
        for code in 0..CODES {
            let bits =
                |place: &dyn Fn(usize) -> usize| (0..8).map(|bit| (code >> bit & 1) << place(bit)).sum::<usize>();
            // (z, y, x) -> (y, x, z), and the mirror image in W.
            let turned_code = bits(&|bit| (bit << 1 & 0b110) | bit >> 2);
            assert_relative_eq!(areas[code], turned[turned_code], max_relative = 1e-14);
            assert_relative_eq!(areas[code], areas[bits(&|bit| bit ^ 1)], max_relative = 1e-14);
        }
    }

    #[test]
    fn bent_loops_are_cut_into_the_triangles_of_largest_area() {
        // Three corners in an L (code 7): triangles of 1/2, sqrt(3)/4 and sqrt(3)/8 in a unit cube.
        let areas = areas_by_code([1.0; 3]);
        assert_relative_eq!(areas[0b0000_0111], 0.5 + 3f64.sqrt() * 0.375, max_relative = 1e-15);
        // Diagonal corners of a face are cut off one by one: two corner triangles.
        assert_relative_eq!(areas[0b0000_0110], 2.0 * 3f64.sqrt() / 8.0, max_relative = 1e-15);
    }

    #[test]
    fn all_codes_have_the_published_areas() {
        #[derive(serde::Deserialize)]
        struct Published {
            spacing: [f64; 3],
            areas: Vec<f64>,
        }
        let text = include_str!("../../tests/fixtures/metrics/areas.json");
        let published: Vec<Published> = serde_json::from_str(text).unwrap();
        assert_eq!(published.len(), 2);
        for Published { spacing, areas } in published {
            assert_eq!(areas.len(), CODES);
            for (ours, theirs) in areas_by_code(spacing).into_iter().zip(areas) {
                // They are written with 13 digits.
                assert_relative_eq!(ours, theirs, max_relative = 1e-12);
            }
        }
    }
}
