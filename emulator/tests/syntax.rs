//! The parser against its own printer, and hostile text against everything.

mod common;

use proptest::prelude::*;
use ptx_emulator::{Config, Device, LaunchConfig, coverage, forms, syntax};

const PROGRAMS: [&str; 9] = [
    include_str!("programs/saxpy.ptx"),
    include_str!("programs/reduction.ptx"),
    include_str!("programs/scan.ptx"),
    include_str!("programs/histogram.ptx"),
    include_str!("programs/convolution.ptx"),
    include_str!("programs/matmul.ptx"),
    include_str!("programs/matmul_wide.ptx"),
    include_str!("programs/checks.ptx"),
    include_str!("programs/hopper.ptx"),
];

/// The tree without its PTX lines, which printing changes.
fn shape(module: &syntax::Module) -> String {
    module.to_string()
}

#[test]
fn printing_and_parsing_again_changes_nothing() {
    for text in PROGRAMS {
        let tree = syntax::parse(text).unwrap();
        let again = syntax::parse(&tree.to_string()).unwrap();
        assert_eq!(shape(&tree), shape(&again));
        assert_eq!(tree.items.len(), again.items.len());
    }
}

#[test]
fn every_shipped_program_is_covered() {
    for text in PROGRAMS {
        assert_eq!(coverage(text).unwrap(), []);
        assert!(!forms(text).unwrap().is_empty());
    }
}

#[test]
fn an_unknown_form_is_named_with_its_line() {
    let text = ".version 9.0\n.target sm_90\n.address_size 64\n.entry k() {\n.reg .b32 a;\nmov.u32 a, 1;\n\
                tex.2d.v4.f32.s32 {a, a, a, a}, [t, {a, a}];\nadd.rz.s32 a, a, a;\nret;\n}";
    let missing = coverage(text).unwrap();
    let found: Vec<_> = missing.iter().map(|m| (m.form.as_str(), m.first_line)).collect();
    assert_eq!(found, [("add.rz.s32", 8), ("tex.2d.v4.f32.s32", 7)]);
}

fn operand() -> impl Strategy<Value = syntax::Operand> {
    use syntax::{AddressBase, Operand};
    let name = "[%a-z][a-z0-9_]{0,6}";
    prop_oneof![
        name.prop_map(Operand::Name),
        any::<u64>().prop_map(Operand::Integer),
        any::<u32>().prop_map(Operand::Single),
        any::<u64>().prop_map(Operand::Double),
        (name, any::<i32>()).prop_map(|(name, offset)| Operand::Address(AddressBase::Name(name), offset as i64)),
        (name, 1..99i64).prop_map(|(name, offset)| Operand::NameOffset(name, offset)),
        proptest::collection::vec(name.prop_map(Operand::Name), 1..4).prop_map(Operand::Vector),
        name.prop_map(Operand::Not),
    ]
}

proptest! {
    #[test]
    fn any_instruction_survives_printing(
        opcode in "[a-z]{2,5}(\\.[a-z][a-z0-9]{0,4}){0,4}",
        operands in proptest::collection::vec(operand(), 0..5),
        guard in proptest::option::of(("[%a-z][a-z0-9]{0,4}", any::<bool>())),
    ) {
        let guard = guard.map(|(register, negated)| syntax::Guard { register, negated });
        let opcode = opcode.split('.').map(str::to_owned).collect();
        let instruction = syntax::Instruction { guard, opcode, operands, line: 0 };
        let text = format!(".version 8.0\n.target sm_80\n.address_size 64\n.entry k() {{ {instruction} }}");
        let tree = syntax::parse(&text).unwrap();
        let syntax::Item::Function(function) = &tree.items[0] else { panic!("a kernel") };
        prop_assert_eq!(&function.body.as_ref().unwrap()[0], &syntax::Statement::Instruction(instruction));
    }

    /// What a fuzzer would do, in every test run: damaged programs must fail or finish, never panic or hang.
    #[test]
    fn damaged_programs_neither_panic_nor_hang(
        program in 0..PROGRAMS.len(),
        edits in proptest::collection::vec((any::<usize>(), any::<usize>(), 0..4u8), 1..6),
    ) {
        let mut lines: Vec<String> = PROGRAMS[program].lines().map(str::to_owned).collect();
        for (at, other, kind) in edits {
            let (at, other) = (at % lines.len(), other % lines.len());
            match kind {
                0 => { lines.remove(at); }
                1 => lines.swap(at, other),
                2 => { let line = lines[other].clone(); lines.insert(at, line); }
                _ => { let cut = lines[at].len() / 2; if lines[at].is_char_boundary(cut) { lines[at].truncate(cut); } }
            }
        }
        let mut device = Device::new(Config { threads: 1, step_limit: 5_000, ..Config::default() });
        if let Ok(module) = device.load_module(&lines.join("\n")) {
            let names: Vec<String> = module.names().map(str::to_owned).collect();
            for name in names {
                let function = module.function(&name).unwrap();
                if function.parameter_bytes() > 4096 || function.static_shared() > 1 << 20 {
                    continue;
                }
                let memory = device.allocate(1 << 12).unwrap();
                device.memset(memory, 0, 1 << 12).unwrap();
                let arguments: Vec<u8> = memory.0.to_le_bytes().into_iter().cycle()
                    .take(function.parameter_bytes() as usize).collect();
                let _ = device.launch_block(&function, &LaunchConfig::new([2, 1, 1], [64, 1, 1]), &arguments);
            }
        }
    }
}

#[test]
fn declarations_need_no_space_between_their_directives() {
    let text = |gap: &str| {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible{gap}.entry k(.param{gap}.u64 to) {{
            .reg{gap}.b32 a; .reg{gap}.b64 y; .shared{gap}.align 4{gap}.b8 s[4];
            ld.param.u64 y, [to]; mov.b32 a, 7; {{.reg{gap}.b32 a; mov.b32 a, s; st.shared.b32 [a], a;}}
            st.global.b32 [y], a; ret; }}"
        )
    };
    assert_eq!(shape(&syntax::parse(&text("")).unwrap()), shape(&syntax::parse(&text(" ")).unwrap()));
    assert_eq!(coverage(&text("")).unwrap(), []);
}

#[test]
fn modifiers_stand_where_libraries_put_them() {
    for form in [
        "atom.add.acquire.gpu.s32 a, [y], b;",
        "atom.acquire.gpu.add.s32 a, [y], b;",
        "atom.cas.acq_rel.cta.b32 a, [y], b, c;",
        "atom.exch.release.sys.b32 a, [y], b;",
        "atom.global.max.relaxed.gpu.s32 a, [y], b;",
        "red.add.release.gpu.global.u32 [y], b;",
        "vote.ballot.sync.b32 a, p, 0xffffffff;",
        "vote.sync.ballot.b32 a, p, 0xffffffff;",
        "ld.acquire.gpu.global.b32 a, [y];",
        "st.release.gpu.b32 [y], a;",
    ] {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 to) {{
            .reg .b32 a, b, c; .reg .b64 y; .reg .pred p; {form} ret; }}"
        );
        assert_eq!(coverage(&text).unwrap(), [], "{form}");
    }
}
