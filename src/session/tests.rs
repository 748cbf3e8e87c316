use super::*;
use crate::{
    cpu::Threads,
    graph::{Role, Tape},
    machine::{Emulated, Null},
    ops::elementwise::Axpy,
};

/// `y = a + 2 b` over seven elements.
fn program() -> Graph {
    let mut tape = Tape::new();
    let [a, b] = ["a", "b"].map(|name| tape.source(name, Spec::f32_vector(7), Role::Input));
    let y = tape.record1("sum", Axpy { alpha: 2.0 }, &[a, b]).unwrap();
    tape.keep_output(y, "y");
    tape.finish()
}

fn on_cpu() -> Box<dyn Program> {
    bind(&[program()], Threads::new(1)).unwrap()
}

#[test]
fn the_same_calls_give_the_same_numbers_wherever_a_program_runs() {
    let targets = [Target::Cpu(Threads::new(1)), Target::Machine(Box::new(Emulated::default()))];
    for target in targets {
        let mut program = bind(&[program()], target).unwrap();
        let [a, b, y] = ["a", "b", "y"].map(|name| program.slot::<f32>(name).unwrap());
        program.write(a, &[1.0; 7]).unwrap();
        program.write_ahead(b, &[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]).unwrap();
        for run in [Program::run, Program::run_captured, Program::run_captured] {
            run(&mut *program, 0).unwrap();
            assert_eq!(program.read(y).unwrap(), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
            program.write(y, &[0.0; 7]).unwrap();
        }
        program.release().unwrap();
    }
}

#[test]
fn the_null_machine_accepts_a_program_and_computes_nothing() {
    let mut program = bind(&[program()], Target::Machine(Box::new(Null::new()))).unwrap();
    program.set("a", &[1.0f32; 7]).unwrap();
    program.run_captured(0).unwrap();
    assert_eq!(program.get::<f32>("y").unwrap(), [0.0; 7]);
    assert!(program.has("y") && program.persistent().count() == 3 && program.plan().total > 0);
}

#[test]
fn a_wrong_name_type_length_or_program_is_an_error_and_no_panic() {
    let (mut program, other) = (on_cpu(), on_cpu());
    let cause = |result: Result<()>| result.unwrap_err().to_string();
    assert_eq!(cause(program.slot::<f32>("z").map(|_| ())), "z: the program has no such value");
    assert_eq!(cause(program.slot::<u32>("a").map(|_| ())), "a: holds elements of fp32, not u32");
    let a = program.slot::<f32>("a").unwrap();
    assert_eq!(cause(program.write(a, &[0.0; 6])), "a: 6 elements for 7");
    assert_eq!(cause(program.write_ahead(a, &[0.0; 8])), "a: 8 elements for 7");
    assert_eq!(cause(program.read_into(a, &mut [0.0; 8])), "a: 8 elements for 7");
    program.write_ahead(a, &[1.0; 2]).unwrap();
    assert_eq!(program.read(a).unwrap(), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(program.bytes("a").unwrap().len(), 28);
    let foreign = other.slot::<f32>("a").unwrap();
    assert_eq!(cause(program.write(foreign, &[0.0; 7])), "a: the slot is another program's");
}

#[test]
fn the_processor_has_a_clock() {
    let mut program = on_cpu();
    let mut seen = Vec::new();
    assert!(program.run_timed(0, &mut |node, what, _| seen.push((node, what))).unwrap());
    assert_eq!(seen, [(0, "axpy")]);
    assert_eq!(program.time_captured(0, 3).unwrap().unwrap().len(), 3);
}
