//! Situations that histories are to meet, so that a full run proves what it says.

macro_rules! met {
    (leases { $($lease:ident,)* } records { $($record:ident,)* }) => {
        /// Situations that a full run of the tests must meet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Met {
            $($lease,)*
            $($record,)*
        }

        impl Met {
            /// In histories of leases.
            pub(crate) const LEASES: &[Self] = &[$(Self::$lease,)*];
            /// In histories of records.
            pub(crate) const RECORDS: &[Self] = &[$(Self::$record,)*];
        }
    };
}

met! {
    leases {
        GrantedAtOnce,
        GrantedAfterWait,
        DetachedPassedOver,
        DeadlockOfLast,
        DeadlockOfTwo,
        DeadlockOfMany,
        DeadlockOfOne,
        DeadlockWithChild,
        DeadlockByWaiter,
        DeadlockByPermits,
        DeadlockByPriority,
        DeadlockByGrant,
        DeadlockOnReturn,
        DeadlockOnTransfer,
        AnyOfIsNoDeadlock,
        PermitsReserved,
        SmallerPassesLarger,
        BlockedFromAbove,
        BlockedFromBelow,
        SharedBesideBelow,
        Closed,
        Reopened,
        Transferred,
        LimitMismatch,
        PartlyBlocked,
        BlockedElsewhereKeepsPlace,
        MaxHold,
        SessionEndedLeases,
        ManyCallsOfOneWaiter,
        FencedBySubtree,
        YieldAnswered,
        RestartedWhileClosed,
        Transacted,
        TransactionRefused,
    }
    records {
        Overwritten,
        CreatedAnew,
        WrittenWithTtl,
        TtlEnded,
        WrittenBound,
        BoundEnded,
        LifetimeKept,
        Counted,
        ExpectationHeld,
        NotAbsent,
        NotThere,
        OtherVersion,
        ValueOmitted,
        PageFull,
        FenceRequired,
        WrittenUnderProtection,
        WrittenUnderSeveral,
        WrittenBelowProtection,
        WrittenUnderReleased,
        CountedTwiceWithin,
        BoundEndedWithin,
        ProtectedByHolder,
        Unprotected,
        PrefixFull,
        ConditionRefused,
        ConditionsHeld,
        LaterOperationRefused,
        AlreadyDone,
        WriteReplayed,
        TransactionReplayed,
        ReplayOfLost,
        RestartedWithRecords,
    }
}
