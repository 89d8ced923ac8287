package signaling

import (
	"context"
	"net/http"
	"time"
)

// review is when a control plane is asked next whether it still has a registration. A control plane that keeps registrations in memory has
// none after a restart, and says nothing of that. Registering again and again instead would do harm: some take a data plane out of use
// until they have checked it anew.
type review struct {
	interval time.Duration
	next     time.Time
}

const (
	// reviewInterval is how often a control plane is asked.
	reviewInterval = time.Minute
	// maxReviewInterval is how often one that never knows of a registration, however often it is made: it may have no answer to that.
	maxReviewInterval = time.Hour
)

// untilReview returns how long it is until the next review, less than 0 if there is none.
func (e *enrolment) untilReview() time.Duration {
	if e.protocol == nil {
		return -1
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.review.next.IsZero() {
		e.review = review{reviewInterval, e.clock().Add(reviewInterval)}
	}
	return max(0, e.review.next.Sub(e.clock()))
}

// reviewed asks the control plane if that is due, registers anew if it has lost the registration, and returns how long it is until the
// next attempt or review.
func (e *enrolment) reviewed(ctx context.Context) time.Duration {
	if wait := e.untilReview(); wait != 0 {
		return wait
	}
	if e.take(ctx) != nil {
		return -1
	}
	defer e.give()
	if status := e.snapshot(); status.Withdrawn { // while it was another's turn
		return -1
	}
	answer, failed := e.peer.exchange(ctx, http.MethodGet, e.protocol.Registered(e.Endpoint, e.dataPlane), nil, maxRegistration)
	lost := failed == nil && e.protocol.Lost(answer.StatusCode, answer.body)
	e.update(func(s *RegistrationStatus) {
		if lost {
			s.Since = time.Time{}
			e.review.interval = min(2*e.review.interval, maxReviewInterval)
		} else if failed == nil {
			e.review.interval = reviewInterval
		}
		e.review.next = e.clock().Add(e.review.interval)
	})
	if !lost {
		return e.untilReview()
	}
	e.log.WarnContext(ctx, "the control plane has lost the registration", "control_plane", e.id)
	return e.registered(ctx)
}

// maxRegistration is how much of a registration is read, in bytes.
const maxRegistration = 64 << 10
