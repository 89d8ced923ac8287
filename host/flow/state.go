package flow

import "fmt"

// State is the state of a data flow, as Data Plane Signaling spells it (section "Data Flow State Machine").
type State string

// The states. Completed and Terminated are final.
const (
	Preparing  State = "PREPARING"
	Prepared   State = "PREPARED"
	Starting   State = "STARTING"
	Started    State = "STARTED"
	Suspended  State = "SUSPENDED"
	Completed  State = "COMPLETED"
	Terminated State = "TERMINATED"
)

// States lists all states.
func States() []State {
	return []State{Preparing, Prepared, Starting, Started, Suspended, Completed, Terminated}
}

// Final reports whether no signal moves a flow out of the state.
func (s State) Final() bool { return s == Completed || s == Terminated }

// Signal is something that moves a flow from one state to another: a message of a control plane, or the end of our own work.
type Signal string

// The signals.
const (
	SignalPrepare   Signal = "prepare"
	SignalStart     Signal = "start"
	SignalStarted   Signal = "started"
	SignalSuspend   Signal = "suspend"
	SignalResume    Signal = "resume"
	SignalTerminate Signal = "terminate"
	SignalCompleted Signal = "completed"
	// SignalAgain is a start of a flow that is there, in protocols that have no resume.
	SignalAgain Signal = "again"
	// SignalAbort is an operator's.
	SignalAbort Signal = "abort"
	// SignalReady is our own: the work of prepare or start is done.
	SignalReady Signal = "ready"
	// SignalFinished is our own: a transfer has ended well.
	SignalFinished Signal = "finished"
)

// move is one cell of the state table.
type move struct {
	from State // "" for a flow that does not exist
	on   Signal
}

// table says which signal moves which state. Nothing else decides. A prepare or start whose work outlives its answer waits in the
// state of underWay until the work is ready.
var table = map[move]State{
	{"", SignalPrepare}: Prepared,
	{"", SignalStart}:   Started,

	{Preparing, SignalReady}:  Prepared,
	{Starting, SignalReady}:   Started,
	{Prepared, SignalStarted}: Started,

	{Started, SignalSuspend}:  Suspended,
	{Suspended, SignalResume}: Started,
	{Started, SignalAgain}:    Started,
	{Suspended, SignalAgain}:  Started,

	{Started, SignalCompleted}: Completed,
	{Started, SignalFinished}:  Completed,

	{Preparing, SignalTerminate}: Terminated,
	{Prepared, SignalTerminate}:  Terminated,
	{Starting, SignalTerminate}:  Terminated,
	{Started, SignalTerminate}:   Terminated,
	{Suspended, SignalTerminate}: Terminated,

	{Preparing, SignalAbort}: Terminated,
	{Prepared, SignalAbort}:  Terminated,
	{Starting, SignalAbort}:  Terminated,
	{Started, SignalAbort}:   Terminated,
	{Suspended, SignalAbort}: Terminated,
}

// underWay are the states in which a new flow waits for the one it is to reach.
var underWay = map[State]State{Prepared: Preparing, Started: Starting}

// repeats says which signals find their target state reached already, and so succeed without effect.
var repeats = map[move]bool{
	{Started, SignalStarted}:      true,
	{Suspended, SignalSuspend}:    true,
	{Started, SignalResume}:       true, // only if STARTED was reached by a resume
	{Terminated, SignalTerminate}: true,
	{Completed, SignalCompleted}:  true,
	{Preparing, SignalAgain}:      true,
	{Prepared, SignalAgain}:       true,
	{Starting, SignalAgain}:       true,
}

// Next returns the state that a signal moves f to. repeated means that f is there already and nothing is to be done. The error is a
// *StateError. f is nil for a flow that does not exist.
func Next(f *Flow, on Signal) (next State, repeated bool, err error) {
	from := State("")
	if f != nil {
		from = f.State
		// started is for consumers: a provider's own start has brought its flow to STARTED already.
		if on == SignalStarted && f.Role != Consumer {
			return "", false, &StateError{Key: f.Key, State: from, Signal: on, Why: "this side provides the data"}
		}
	}
	m := move{from, on}
	if repeats[m] && !(on == SignalResume && !f.Resumed) {
		return from, true, nil
	}
	next, ok := table[m]
	if !ok {
		e := &StateError{State: from, Signal: on}
		if f != nil {
			e.Key = f.Key
		}
		return "", false, e
	}
	return next, false, nil
}

// StateError says that a flow is in a state in which it does not take a signal.
type StateError struct {
	Key    Key
	State  State
	Signal Signal
	Why    string // "" if the state says enough
}

func (e *StateError) Error() string {
	text := fmt.Sprintf("flow %s is %s and cannot take %s", e.Key, e.State, e.Signal)
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text
}
