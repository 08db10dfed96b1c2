//! What a formula makes of quiet signals, found out once: where no signal is raised and none has a probability, many
//! formulas are zero whatever the other numbers are, and then need not be asked.

use super::{LOCALS_MAX, Native, Node, Op, Step, Val, binary};

/// What is known of a value before there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guess {
    /// This number.
    Number(f64),
    /// This flag.
    Flag(bool),
    /// Some finite number.
    Finite,
    /// Nothing.
    Unknown,
}

impl Native {
    /// True if every number that the formula returns for such inputs is zero.
    pub(crate) fn is_zero_for(&self, inputs: &[Guess]) -> bool {
        let mut locals = [Guess::Unknown; LOCALS_MAX];
        for (local, input) in locals.iter_mut().zip(inputs) {
            *local = *input;
        }
        for step in &self.steps {
            match step {
                Step::Locals(first, nodes) => {
                    for (place, node) in (*first..).zip(nodes) {
                        let guess = guess(node, &locals);
                        if let Some(local) = locals.get_mut(place) {
                            *local = guess;
                        }
                    }
                }
                Step::Notes(_) => return false,
                Step::ReturnIf(condition, results) => match guess(condition, &locals) {
                    Guess::Flag(false) => {}
                    Guess::Flag(true) => return are_zero(results, &locals),
                    Guess::Number(_) | Guess::Finite | Guess::Unknown => return false,
                },
                Step::Return(results) => return are_zero(results, &locals),
            }
        }
        false
    }
}

fn are_zero(nodes: &[Node], locals: &[Guess]) -> bool {
    nodes.iter().all(|node| matches!(guess(node, locals), Guess::Number(0.0)))
}

fn guess(node: &Node, locals: &[Guess]) -> Guess {
    match node {
        Node::Number(number) => Guess::Number(*number),
        Node::Bool(flag) => Guess::Flag(*flag),
        Node::Local(place) => locals.get(*place).copied().unwrap_or(Guess::Unknown),
        Node::Negate(inner) => match guess(inner, locals) {
            Guess::Number(number) => Guess::Number(-number),
            Guess::Finite => Guess::Finite,
            Guess::Flag(_) | Guess::Unknown => Guess::Unknown,
        },
        Node::Not(inner) => match guess(inner, locals) {
            Guess::Flag(flag) => Guess::Flag(!flag),
            Guess::Number(_) | Guess::Finite => Guess::Flag(false),
            Guess::Unknown => Guess::Unknown,
        },
        Node::And(left, right) => match guess(left, locals) {
            Guess::Flag(false) => Guess::Flag(false),
            Guess::Unknown => Guess::Unknown,
            Guess::Flag(true) | Guess::Number(_) | Guess::Finite => guess(right, locals),
        },
        Node::Or(left, right) => match guess(left, locals) {
            Guess::Flag(false) => guess(right, locals),
            decided => decided,
        },
        Node::Choice(condition, then, other) => match guess(condition, locals) {
            Guess::Flag(false) => guess(other, locals),
            Guess::Unknown => Guess::Unknown,
            Guess::Flag(true) | Guess::Number(_) | Guess::Finite => guess(then, locals),
        },
        Node::Binary(op, left, right) => operation(*op, guess(left, locals), guess(right, locals)),
        Node::Math(function, args) => {
            let args: Vec<Guess> = args.iter().map(|arg| guess(arg, locals)).collect();
            math(*function, &args)
        }
        _ => Guess::Unknown,
    }
}

fn operation(op: Op, left: Guess, right: Guess) -> Guess {
    match (op, left, right) {
        // A zero may have come without its sign, which only a division shows.
        (Op::Divide, _, Guess::Number(0.0)) => Guess::Unknown,
        (_, Guess::Number(left), Guess::Number(right)) => match binary(op, Val::Num(left), Val::Num(right)) {
            Ok(Val::Num(number)) => Guess::Number(number),
            Ok(Val::Bool(flag)) => Guess::Flag(flag),
            _ => Guess::Unknown,
        },
        (Op::Multiply, Guess::Number(0.0), Guess::Finite)
        | (Op::Multiply, Guess::Finite, Guess::Number(0.0)) => Guess::Number(0.0),
        (Op::Multiply, Guess::Number(number), Guess::Finite)
        | (Op::Multiply, Guess::Finite, Guess::Number(number))
            if number.abs() <= 1.0 =>
        {
            Guess::Finite
        }
        (Op::Add | Op::Subtract, Guess::Number(0.0), Guess::Finite)
        | (Op::Add | Op::Subtract, Guess::Finite, Guess::Number(0.0)) => Guess::Finite,
        (Op::Divide, Guess::Finite, Guess::Number(number)) if number.abs() >= 1.0 => Guess::Finite,
        _ => Guess::Unknown,
    }
}

fn math(function: super::Math, args: &[Guess]) -> Guess {
    let numbers: Option<Vec<f64>> = args
        .iter()
        .map(|arg| match arg {
            Guess::Number(number) => Some(*number),
            Guess::Flag(_) | Guess::Finite | Guess::Unknown => None,
        })
        .collect();
    let is_finite = |arg: &Guess| match arg {
        Guess::Number(number) => number.is_finite(),
        Guess::Finite => true,
        Guess::Flag(_) | Guess::Unknown => false,
    };
    let is_choice = matches!(function, super::Math::Max | super::Math::Min | super::Math::Abs);
    match numbers {
        Some(numbers) => function.of(&numbers).map_or(Guess::Unknown, Guess::Number),
        None if is_choice && args.iter().all(is_finite) => Guess::Finite,
        None => Guess::Unknown,
    }
}
