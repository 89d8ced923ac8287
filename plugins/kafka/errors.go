package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
)

// codes are those of brokers' errors that an operator has to do something about.
var codes = []struct {
	code sdk.Code
	errs []*kerr.Error
}{
	{sdk.NotFound, []*kerr.Error{kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.GroupIDNotFound}},
	{sdk.Denied, []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState,
		kerr.DelegationTokenAuthorizationFailed, kerr.PolicyViolation}},
	{sdk.Corrupt, []*kerr.Error{kerr.OffsetOutOfRange, kerr.CorruptMessage, kerr.InconsistentTopicID}},
	{sdk.Exhausted, []*kerr.Error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.OffsetMetadataTooLarge, kerr.GroupMaxSizeReached}},
	{sdk.Invalid, []*kerr.Error{kerr.InvalidTopicException, kerr.InvalidPartitions, kerr.InvalidReplicationFactor, kerr.InvalidConfig,
		kerr.InvalidTransactionTimeout, kerr.InvalidGroupID, kerr.InvalidTimestamp, kerr.InvalidRecord}},
	{sdk.Unsupported, []*kerr.Error{kerr.UnsupportedVersion, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType}},
}

// failure returns what went wrong while doing something, with the code that tells who can do something about it. What no one has to do
// anything about can be tried again.
func failure(doing string, err error) error {
	var known *sdk.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	var lost *kgo.ErrDataLoss
	if errors.As(err, &lost) {
		return sdk.Errorf(sdk.Corrupt, "%s: messages that were read are no longer there: %w", doing, err)
	}
	var broker *kerr.Error
	if errors.As(err, &broker) {
		for _, c := range codes {
			if slices.Contains(c.errs, broker) {
				return sdk.Errorf(c.code, "%s: %w", doing, err)
			}
		}
	}
	return sdk.Retryf(sdk.Unavailable, "%s: %w", doing, err)
}
