//! Whole modules of every kind of declaration, statement and operand survive printing and parsing again.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use ptx_emulator::syntax::{
    self, AddressBase, Directive, Function, FunctionKind, Guard, Init, Instruction, Item, Location, Module, Operand,
    RegisterName, Space, Statement, Type, Variable,
};

/// Names of more than one letter, so that none is the sink `_`.
fn name() -> impl Strategy<Value = String> {
    "[%a-z][a-z0-9_$]{1,6}"
}

fn base() -> impl Strategy<Value = (AddressBase, i64)> {
    prop_oneof![
        (name(), any::<i32>()).prop_map(|(name, offset)| (AddressBase::Name(name), offset as i64)),
        any::<u32>().prop_map(|offset| (AddressBase::Absolute, offset as i64)),
    ]
}

fn plain() -> impl Strategy<Value = Operand> {
    prop_oneof![
        name().prop_map(Operand::Name),
        any::<u64>().prop_map(Operand::Integer),
        any::<u32>().prop_map(Operand::Single),
        any::<u64>().prop_map(Operand::Double),
    ]
}

fn operand() -> impl Strategy<Value = Operand> {
    prop_oneof![
        plain(),
        name().prop_map(Operand::Not),
        (name(), 1..999i64).prop_map(|(name, offset)| Operand::NameOffset(name, offset)),
        vec(prop_oneof![plain(), Just(Operand::Sink)], 1..5).prop_map(Operand::Vector),
        (name(), name()).prop_map(|(a, b)| Operand::Pair(Box::new(Operand::Name(a)), Box::new(Operand::Name(b)))),
        base().prop_map(|(base, offset)| Operand::Address(base, offset)),
        (name(), vec(name().prop_map(Operand::Name), 1..6)).prop_map(|(map, at)| Operand::TensorAddress(
            AddressBase::Name(map),
            0,
            at
        )),
    ]
}

fn instruction() -> impl Strategy<Value = Statement> {
    let guard = option::of((name(), any::<bool>()));
    (guard, vec("[a-z][a-z0-9]{1,5}", 1..5), vec(operand(), 0..5)).prop_map(|(guard, opcode, operands)| {
        let guard = guard.map(|(register, negated)| Guard { register, negated });
        Statement::Instruction(Instruction { guard, opcode, operands, line: 0 })
    })
}

fn ty() -> impl Strategy<Value = Type> {
    prop::sample::select(vec![Type::Pred, Type::B8, Type::B16, Type::U32, Type::S64, Type::F16x2, Type::F32, Type::F64])
}

/// A variable that is no parameter.
fn variable(space: Space) -> impl Strategy<Value = Variable> {
    let align = prop::sample::select(vec![None, Some(1), Some(16), Some(128)]);
    let vector = prop::sample::select(vec![1, 2, 4]);
    let data = prop::sample::select(vec![Type::B8, Type::U16, Type::B32, Type::F32, Type::F64]);
    let dims = vec((1..999u64).prop_map(Some), 0..3);
    (align, vector, data, name(), dims).prop_map(move |(align, vector, ty, name, dims)| Variable {
        linkage: Vec::new(),
        space,
        align,
        vector,
        ty,
        name,
        dims,
        init: None,
    })
}

fn statement() -> impl Strategy<Value = Statement> {
    let leaf = prop_oneof![
        4 => instruction(),
        1 => name().prop_map(Statement::Label),
        1 => (ty(), vec((name(), option::of(1..99u32)), 1..4)).prop_map(|(ty, names)| {
            let named = |(name, count)| RegisterName { name, count };
            Statement::Registers(ty, names.into_iter().map(named).collect())
        }),
        1 => prop_oneof![variable(Space::Shared), variable(Space::Local)].prop_map(Statement::Variable),
        1 => (name(), vec(name(), 1..4)).prop_map(|(name, targets)| Statement::BranchTargets(name, targets)),
        1 => (1..9u32, 1..999u32, 0..99u32)
            .prop_map(|(file, line, column)| Statement::Location(Location { file, line, column })),
    ];
    // The scopes of inline assembly, one within another.
    leaf.prop_recursive(3, 24, 6, |inner| vec(inner, 0..6).prop_map(Statement::Block))
}

fn function() -> impl Strategy<Value = Function> {
    let directive = prop_oneof![
        vec(1..1024u64, 1..4).prop_map(|values| Directive { name: "maxntid".into(), values }),
        vec(1..1024u64, 3).prop_map(|values| Directive { name: "reqntid".into(), values }),
        (1..9u64).prop_map(|n| Directive { name: "minnctapersm".into(), values: vec![n] }),
    ];
    (name(), any::<bool>(), vec(variable(Space::Param), 0..4), vec(directive, 0..3), vec(statement(), 0..12)).prop_map(
        |(name, visible, params, directives, body)| Function {
            linkage: if visible { vec!["visible".into()] } else { Vec::new() },
            kind: FunctionKind::Entry,
            returns: Vec::new(),
            name,
            params,
            directives,
            body: Some(body),
            line: 0,
        },
    )
}

fn item() -> impl Strategy<Value = Item> {
    let global = (variable(Space::Global), vec(any::<u32>(), 1..5)).prop_map(|(mut variable, values)| {
        variable.linkage = vec!["visible".into()];
        variable.vector = 1;
        variable.dims = vec![Some(values.len() as u64)];
        let value = |v: u32| Init::Value(Operand::Integer(v as u64));
        variable.init = Some(Init::List(values.into_iter().map(value).collect()));
        Item::Variable(variable)
    });
    let dynamic = variable(Space::Shared).prop_map(|mut variable| {
        variable.linkage = vec!["extern".into()];
        variable.dims = vec![None];
        Item::Variable(variable)
    });
    prop_oneof![
        (1..99u32, "[a-z/]{1,12}\\.cu").prop_map(|(index, path)| Item::File(index, path)),
        global,
        dynamic,
        function().prop_map(Item::Function),
    ]
}

proptest! {
    #[test]
    fn any_module_survives_printing(
        version in (7..10u32, 0..9u32),
        target in prop::sample::select(vec!["sm_75", "sm_80", "sm_89", "sm_90a"]),
        items in vec(item(), 0..5),
    ) {
        let module = Module { version, target: vec![target.into()], address_size: 64, items };
        let text = module.to_string();
        let mut again = syntax::parse(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        for item in &mut again.items {
            if let Item::Function(function) = item {
                function.line = 0;
            }
        }
        prop_assert_eq!(again, module, "{}", text);
    }
}
